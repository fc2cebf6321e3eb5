"""The paper's tables, figures and user study, and the commands that run published systems."""
