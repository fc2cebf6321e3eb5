"""Registers all schemas with Hydra. No other file imports all of them."""

from __future__ import annotations

import functools

from hydra.core.config_store import ConfigStore

from configs.app import AppConfig
from configs.emotion import EmotionModelConfig
from configs.evaluation import EvaluateConfig
from configs.generation import ExportConfig, GenerateConfig
from configs.models import EthdConfig, VAIDConfig
from configs.preparation import PrepareConfig
from configs.proxy import ProxyConfig
from configs.systems import RunSystemConfig
from configs.tables import TableConfig
from configs.training import TrainConfig


@functools.cache  # converting the schemas takes a third of the time of a composition
def register() -> None:
    """Adds the schemas to Hydra's config store, where defaults lists find them."""
    store = ConfigStore.instance()
    store.store(name="prepare_schema", node=PrepareConfig)
    store.store(name="train_schema", node=TrainConfig)
    store.store(group="model", name="vaid_schema", node=VAIDConfig)
    store.store(group="model", name="ethd_schema", node=EthdConfig)
    store.store(group="model", name="emotion_schema", node=EmotionModelConfig)
    store.store(group="model", name="proxy_schema", node=ProxyConfig)
    store.store(name="evaluate_schema", node=EvaluateConfig)
    store.store(name="generate_schema", node=GenerateConfig)
    store.store(name="export_schema", node=ExportConfig)
    store.store(name="app_schema", node=AppConfig)
    store.store(name="systems_schema", node=RunSystemConfig)
    store.store(name="tables_schema", node=TableConfig)
