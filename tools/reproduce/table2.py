"""Table 2 on synthetic speakers: trains V-AID, variants of ETHD and the metrics' proxies.

Branches are left out in both readings of the paper: by training without them, and by switching them off at inference.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tools.pipeline.precision import cpu_precision
from tools.pipeline.step import Files, Step
from tools.reproduce.table_plan import IN_THE_TABLE, PROXIES, TablePlan, chosen_networks, proxy_keys

VARIANTS = ("full", "wo_lip", "wo_exp", "no_decouple")
SWITCHED = {"wo_lip_inference": "emotivetalk_wo_lip", "wo_exp_inference": "emotivetalk_wo_exp"}  # variant -> system
# Ablations -> trained variants, and whether branches are switched off at inference of the full one.
ABLATIONS = {"both": (VARIANTS, True), "trained": (VARIANTS, False), "inference": (("full", "no_decouple"), True)}
# Steps of each training, as in its experiment. No limit of time: all variants have equal steps on a busy machine, too.
STEPS = {"vaid": 1800, "ethd": 1200, "sync": 200, "image": 200, "video": 150, "expression": 300}
# The paper drops no condition, and ablated networks have none to drop.
UNGUIDED = [f"model.{part}_{key}" for part in ("lip", "expression") for key in ("dropout=0", "guidance=1")]
DRAWN_SECONDS = 2.4  # of a training clip; ethd/tiny needs many speakers rather than long clips


@dataclass(frozen=True)
class Table2:
    """Settings of Table 2.

    Attributes:
        seed: Seed of all trainings except the proxies'; each seed is a separate run in the table.
        steps: Limit of steps of each training, or None for the experiments' own.
        clips: Number of test clips.
        seconds: Duration of a test clip.
        identities: Number of training speakers.
        clips_per_identity: Number of training clips per speaker.
        proxies: Folder of trained proxies, or None to train them.
        ablations: both, trained (a network is trained without each branch) or inference (branches of the full network
            are switched off; only no_decouple is trained). The paper's words speak for inference.
    """

    seed: int = 0
    steps: int | None = None
    clips: int = 16
    seconds: float = 4.0
    identities: int = 48
    clips_per_identity: int = 24
    proxies: Path | None = None
    ablations: str = "both"


def table2(plan: TablePlan, wanted: Table2) -> list[Step]:
    """Returns the steps. Data, test set and proxies are shared by all seeds."""
    data = plan.folder / "data"
    index, count = data / "index.json", wanted.identities * wanted.clips_per_identity
    size = [
        f"dataset.identities={wanted.identities}",
        f"dataset.clips_per_identity={wanted.clips_per_identity}",
        f"dataset.seconds={DRAWN_SECONDS:g}",
    ]
    plan.add(
        "data",
        "draws and prepares synthetic speakers",
        ["prepare.py", "dataset=synthetic", "preset=tiny", *size, "store_video=all", f"output={data}"],
        writes=[data],
        progress=Files(data / "raw", "*.mp4", count, "clips"),
    )
    _proxies(plan, wanted, data)
    cases = plan.test_set("synthetic", "set", [f"clips={wanted.clips}", f"seconds={wanted.seconds}"])
    limit, seed = _limit(wanted, "vaid"), wanted.seed
    keys = [f"data.root={data}", f"seed={seed}"]
    vaid = plan.train("vaid/tiny", f"vaid-{seed}", [*keys, *limit], [index], wanted.steps or STEPS["vaid"])
    variants, switched = ABLATIONS[wanted.ablations]
    for variant in variants:
        name = f"{variant}-{seed}"
        chosen = [*keys, f"vaid={vaid}", f"model.variant={variant}", *UNGUIDED]
        chosen += [cpu_precision()] if plan.device == "cpu" else []
        last = vaid / "checkpoints" / "last.ckpt"
        run = plan.train(
            "ethd/tiny", name, [*chosen, *_limit(wanted, "ethd")], [last], wanted.steps or STEPS["ethd"]
        )  # fmt: skip
        export = run / "export" / "ethd.safetensors"
        command = ["train.py", "task=export", f"run={run}"]
        plan.add(f"export_{name}", f"exports {name}", command, [run / "checkpoints" / "last.ckpt"], [run / "export"])
        clips = plan.system(name, "emotivetalk_a", cases / "cases_A.csv", [f"ethd={export}"], [export, cases])
        cell = {"system": "emotivetalk", "mode": "A", "variant": variant, "run": seed}
        plan.evaluate(name, clips / "videos", clips / "reference", cell, [IN_THE_TABLE])
        if variant != "full" or not switched:
            continue
        for other, system in SWITCHED.items():
            name = f"{other}-{seed}"
            clips = plan.system(name, system, cases / "cases_A.csv", [f"ethd={export}"], [export, cases])
            plan.evaluate(name, clips / "videos", clips / "reference", {**cell, "variant": other}, [IN_THE_TABLE])
    plan.table("2")
    return plan.steps


def _limit(wanted: Table2, experiment: str) -> list[str]:
    steps = STEPS[experiment] if wanted.steps is None else wanted.steps
    # Validates at the last step at the latest, and often enough that an interrupted training loses little.
    return [f"trainer.max_steps={steps}", f"trainer.validate_every={min(250, steps)}"]


def _proxies(plan: TablePlan, wanted: Table2, data: Path) -> None:
    """Selects the metrics' networks, and adds their trainings if none are given."""
    if wanted.proxies is not None:
        plan.metrics, plan.networks = chosen_networks(wanted.proxies, real_faces=False)
        return
    files = {}
    for metric, kind in PROXIES.items():
        steps = wanted.steps or STEPS[kind]
        run = plan.train(
            f"proxy/{kind}", kind, [f"data.root={data}", *_limit(wanted, kind)], [data / "index.json"], steps
        )
        files[metric] = run / f"proxy_{kind}.safetensors"
    plan.metrics, plan.networks = proxy_keys(files, real_faces=False), tuple(files.values())
