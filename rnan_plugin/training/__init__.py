"""Training in BasicSR: option files checked, the loop, the restoration model, states, logs."""
