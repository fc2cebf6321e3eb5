"""Data preparation: finds clips, tracks and crops the face, encodes, writes shards, checks and reports."""
