"""Go templates (`--format`): the part of text/template that people use with Docker's commands."""

from __future__ import annotations

from sampan.cli.template.evaluate import Row, Template
from sampan.cli.template.parse import TemplateError

__all__ = ["Row", "Template", "TemplateError"]
