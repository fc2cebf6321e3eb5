"""The paper's tables, figures and user study from results files and videos, beside the published systems."""
