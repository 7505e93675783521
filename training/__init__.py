"""Train ensembles whose members look at different parts of an image."""
