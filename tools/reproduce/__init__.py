"""Reproduces the paper's tables from videos and trained runs, in resumable steps that are ordinary commands.

    python -m tools.reproduce table1 videos=DIR       all systems on a folder of talking-head videos, one person each
    python -m tools.reproduce table2                  ablations, trained here on synthetic speakers
    python -m tools.reproduce table3 ethd=RUN         synthetic speakers, 120 to 1500 frames, with drift
    python -m tools.reproduce figure4 ethd=RUN portrait=FILE speech=FILE expression=PICTURE     with and without Di-CTE

Options of all tables: proxies=DIR (trained proxies of the metrics' networks), device=cpu or cuda, output=DIR.
table1: ethd=RUN (an exported run; without it its rows are marked as not run), size=PIXELS of EmotiveTalk's and the real
frames, clips=N at most, frames=N of each clip, dataset=NAME of the block in the table, and
installed=SYSTEM:REPOSITORY:PYTHON,... for published systems that are installed on this machine.
table2: seed=N (three of them give intervals), steps=N at most of each training, clips=N and seconds=S of the test set,
identities=N and clips_per_identity=N of the training set, ablations=both, trained (a network is trained without each
branch) or inference (branches of one network are switched off, which the paper's words "driven without" speak for).
table3: clips=N of each length.
figure4: holds the expression constant at inference of one network; without=RUN, an exported run of
model.variant=wo_dicte, adds the figure of a network that was trained without Di-CTE.

The last step is ``evaluate.py table=N`` in the output folder. An interrupted run resumes with the same command; delete
the folder to start again.
"""
