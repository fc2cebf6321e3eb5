"""Draws the paper's figures from videos and results files.

    python -m benchmark.figures 3 portrait=face.png lips=lips.mp4 expression=expression.mp4 output=figure3.png
    python -m benchmark.figures 4 with_dicte=a.mp4 without_dicte=b.mp4 output=figure4.png
    python -m benchmark.figures 5 clip=NAME system=reference=DIR,hallo=DIR output=figure5.png
    python -m benchmark.figures 6 clip=NAME driving=happy.mp4 system=emotivetalk=DIR output=figure6.png
    python -m benchmark.figures drift files=results/long.json output=drift.png

Figure 5 compares systems driven by audio, Figure 6 systems that transfer an emotion. ``drift`` plots evaluations that
were computed with ``drift=5``.
"""
