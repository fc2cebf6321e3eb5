"""Evaluation of two folders: pairs and aligns videos, computes the metrics and writes the results.

evaluation.pairs            pairs of generated and real videos
evaluation.aligned_clips    alignment of a pair in time, panel and length
evaluation.networks         the metrics' networks, and whether they are official
evaluation.features         features of one clip, cached by content hash
evaluation.frechet_scores   FID, FVD and E-FID from the features, with intervals
evaluation.sync_scores      Sync-C and Sync-D of both sides, with a self-check
evaluation.drift            metrics per window of long videos, and their slope over time
evaluation.results          the versioned results file
evaluation.report           the printed table and warnings
"""
