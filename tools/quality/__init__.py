"""How good a trained stage is, measured on clips it was not trained on."""
