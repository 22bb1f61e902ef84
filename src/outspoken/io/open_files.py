"""The limit of open files of this process; each connection is one."""

from __future__ import annotations

__all__ = ["raise_file_limit"]

_MOST = 65_536


def raise_file_limit() -> None:
    """Raise the soft limit of open files as far as allowed."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    target = _MOST if hard == resource.RLIM_INFINITY else min(hard, _MOST)
    if soft != resource.RLIM_INFINITY and soft < target:
        resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))
