"""What only chapter 5 needs: the recorded runs of its experiments."""
