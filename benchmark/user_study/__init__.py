"""The user study of Table 4: a rating page that hides who made what, and what its answers say.

python -m benchmark.user_study build --system ground_truth=DIR --system hallo=DIR ... --output study
python -m benchmark.user_study collect --answers DIR --key study/key.json --output results/user_study.json
"""
