"""Ridge systems: coefficients and leave-one-out at any penalty."""
