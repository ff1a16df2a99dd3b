"""Panels of controls. They edit values; the work is ordinary Python in the cells beside them."""
