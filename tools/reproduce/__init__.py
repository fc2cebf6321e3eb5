"""Tables from nothing but videos and trained runs: every step a command that a person could type, resumable.

    python -m tools.reproduce table1 --videos DIR [--ethd RUN] [--standins DIR] ...
    python -m tools.reproduce table2 [--seed N] ...   synthetic speakers, three ablations, trained here
    python -m tools.reproduce table3 --ethd RUN [--standins DIR] ...   synthetic speakers, up to 1500 frames

Each ends with ``evaluate.py table=N`` in its folder; ``--help`` explains the rest. Interrupted, the same command goes
on.
"""
