"""The user study of Table 4: a rating page that hides the systems' names, and the evaluation of its answers.

    python -m benchmark.user_study build system=ground_truth=DIR,hallo=DIR output=study
    python -m benchmark.user_study collect answers=DIR key=study/key.json output=results/user_study.json

Further options of ``build``: samples=10 clips of each system, raters=26 orders, checks=3 attention checks per rater, of
which allowed_failures=1 may fail, seed=0, and embed=yes for a single file that contains the clips.
"""
