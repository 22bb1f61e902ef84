"""Tasks: prompts, how responses become answers, and the expected answers; one TOML file each, in `library/`.

`task` reads and holds a task, and turns a response into an answer. It may import `measure`, `batch` and
the layers below them. A new task is a new file in `library/`; a new key of these files is added to `task`.
"""

from outspoken.tasks.task import Normalise, Task, TaskPrompt, load, names

__all__ = ["Normalise", "Task", "TaskPrompt", "load", "names"]
