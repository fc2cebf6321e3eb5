"""The metrics as pure functions: tensors in, numbers out."""
