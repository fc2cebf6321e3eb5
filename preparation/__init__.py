"""The steps of prepare.py: find clips, follow the face, crop, encode, write shards, check, report."""
