"""Whether services that wait for each other would wait for ever."""

from __future__ import annotations

from .service import ENDED, RUNNING, Item


def _ahead(wanted: Item) -> list[Item]:
    """The items one of which must end before `wanted` can get on; none: nothing holds it up. O(instances)."""
    if wanted.state == RUNNING:
        return [wanted]
    if wanted.state == ENDED or wanted.queue.has_instance:
        return []
    return list(wanted.queue.running.values())


def _stuck(wanted: Item, free: dict[int, Item]) -> bool:
    ahead = _ahead(wanted)
    return bool(ahead) and not any(id(item) in free for item in ahead)


def cycle(holder: Item, wanted: Item) -> tuple[str, ...]:
    """Whether `holder` would wait for ever if it waited for `wanted`, too.

    An item gets on when everything it waits for does. What waits for an instance gets on when any item
    that has one does. So an item is stuck exactly if it cannot be reached from items that wait for nothing.

    Returns:
        The names of the services that wait for each other, the first one again at the end; empty when
        `wanted` will get on. O(items reached, times the length of the longest chain).
    """
    holder.waits.append(wanted)
    try:
        reached: dict[int, Item] = {}
        todo = _ahead(wanted)
        while todo:
            item = todo.pop()
            if not item.waits and item.queue is wanted.queue and wanted.state != RUNNING:
                return ()  # the usual case: an instance is simply at work
            if id(item) not in reached:
                reached[id(item)] = item
                todo += [ahead for wait in item.waits for ahead in _ahead(wait)]
        free: dict[int, Item] = {}
        while found := [
            item
            for key, item in reached.items()
            if key not in free and not any(_stuck(wait, free) for wait in item.waits)
        ]:
            free.update((id(item), item) for item in found)
        return _path(holder, wanted, free) if _stuck(wanted, free) else ()
    finally:
        holder.waits.remove(wanted)


def _path(holder: Item, wanted: Item, free: dict[int, Item]) -> tuple[str, ...]:
    names = [holder.queue.name]
    while (name := wanted.queue.name) not in names:
        names.append(name)
        stuck = next(item for item in _ahead(wanted) if id(item) not in free)
        wanted = next(wait for wait in stuck.waits if _stuck(wait, free))
    return (*names[names.index(name) :], name)
