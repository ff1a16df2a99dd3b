"""What only a notebook needs: panels, figures, progress, exercises, and the chapter runner."""
