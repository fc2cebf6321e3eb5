"""Evaluation of two folders: pairs and aligns videos, computes the metrics and writes the results.

evaluation.pairs            pairs of generated and real videos
evaluation.aligned_clips    alignment of a pair in time, panel and length
evaluation.networks         the metrics' networks, and whether they are official
evaluation.one_pass         one decoding of each video for all metrics
evaluation.extractor        features of one clip; fid_features, fvd_features and efid_features are those of the paper
evaluation.frechet_scores   FID, FVD and E-FID from the features, with intervals
evaluation.paired_scores    scores that compare frames of equal times, averaged over the clips
evaluation.sync_videos      Sync scores of single videos, cached
evaluation.sync_scores      Sync-C and Sync-D of both sides, with a self-check
evaluation.drift            metrics per window of long videos, and their slope over time
evaluation.results          the versioned results file
evaluation.report           the printed table and warnings
"""
