"""A real Prometheus with the shipped settings, scraping a controller of the test's."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import yaml
from support.observability import FOLDER, RULES
from support.patience import PATIENCE_SECONDS, wait_until


class Prometheus:
    """Scrapes `target` every 0.5 s under the shipped rules, which are only made impatient.

    Their windows of minutes become seconds; what they look at and compare stays.
    """

    def __init__(self, directory: Path, target: str) -> None:
        rules = directory / "rules.yml"
        rules.write_text(re.sub(r"\[\d+m\]", "[5s]", re.sub(r"for: \d+m", "for: 1s", RULES.read_text())))
        settings = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
        settings["global"] = {
            "scrape_interval": "500ms",
            "scrape_timeout": "500ms",
            "evaluation_interval": "500ms",
        }
        settings["rule_files"] = [str(rules)]
        (job,) = settings["scrape_configs"]
        (targets,) = job["static_configs"]
        targets["targets"] = [target]
        config = directory / "prometheus.yml"
        config.write_text(yaml.safe_dump(settings))
        self._address = f"127.0.0.1:{_free_port()}"
        self._log = directory / "prometheus.log"
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    "prometheus",
                    f"--config.file={config}",
                    f"--storage.tsdb.path={directory / 'data'}",
                    f"--web.listen-address={self._address}",
                ],
                stdout=log,
                stderr=log,
            )
        wait_until(self._ready, "ready")

    def _ready(self) -> bool:
        assert self._process.poll() is None, self._log.read_text()
        try:
            with urllib.request.urlopen(f"http://{self._address}/-/ready", timeout=PATIENCE_SECONDS):
                return True
        except OSError:
            return False

    def _ask(self, path: str, **parameters: str) -> Any:
        url = f"http://{self._address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=PATIENCE_SECONDS) as response:
                return json.load(response)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{path} {parameters}: {error.read().decode()}") from error

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series that an expression gives now."""
        found: list[dict[str, Any]] = self._ask("query", query=expression)["result"]
        return found

    def rules(self) -> list[dict[str, Any]]:
        """The rules with their health."""
        return [rule for group in self._ask("rules")["groups"] for rule in group["rules"]]

    def firing(self) -> set[tuple[str, str]]:
        """Alerts that fire: name, and engine where it is about one."""
        return {
            (alert["labels"]["alertname"], alert["labels"].get("engine_id", ""))
            for alert in self._ask("alerts")["alerts"]
            if alert["state"] == "firing"
        }

    def metadata(self) -> dict[str, Any]:
        """Of all metrics scraped: kind and meaning."""
        found: dict[str, Any] = self._ask("metadata")
        return found

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(PATIENCE_SECONDS)


def _free_port() -> int:
    """Prometheus has no way to tell which port it took."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port
