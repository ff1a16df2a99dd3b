"""What chapter 4 needs beside its cells."""
