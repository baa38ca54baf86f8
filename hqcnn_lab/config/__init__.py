"""What a command line and conf/ say: composed, and refused in one line where it is wrong."""
