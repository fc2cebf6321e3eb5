"""The paper's tables against published systems: how each is called, and what its videos become."""
