"""Pairs generated videos with real ones, brings both to the same times, computes the metrics and writes the results.

evaluation.pairs            which videos belong together
evaluation.aligned_clips    the same times, panel and length on both sides; what cannot be compared, and why
evaluation.networks         the metrics' networks from the weight registry, and how official they are
evaluation.features         the features of one clip, kept by content hash
evaluation.frechet_scores   FID, FVD and E-FID from those features, with intervals
evaluation.sync_scores      Sync-C and Sync-D of both sides, and the self-check
evaluation.drift            every metric per window of long videos, and its slope over time
evaluation.results          the versioned results file
evaluation.report           what a person sees
"""
