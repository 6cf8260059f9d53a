"""The restoration model (training, validation) and whole-image inference."""
