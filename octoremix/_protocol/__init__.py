"""The HTTP API without I/O: requests built, answers read, errors named."""

from .answers import (
    Refused,
    Unclear,
    read_accepted,
    read_content_error,
    read_error,
    read_task,
    read_usage,
)
from .requests import (
    API,
    DEFAULT_BASE_URL,
    Request,
    doubts_about,
    is_loopback,
    parse_base_url,
)
from .responses import Response, retry_after

__all__ = [
    "API",
    "DEFAULT_BASE_URL",
    "Refused",
    "Request",
    "Response",
    "Unclear",
    "doubts_about",
    "is_loopback",
    "parse_base_url",
    "read_accepted",
    "read_content_error",
    "read_error",
    "read_task",
    "read_usage",
    "retry_after",
]
