"""Which images train and which test: cut without leaks, and looked over."""
