"""The paper's tables, figures and user study, and how each published system is called to make its videos."""
