"""What only a notebook needs: panels, figures, exercises, and the chapter runner."""
