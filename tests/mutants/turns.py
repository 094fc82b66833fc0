"""Bugs planted in what a conversation needs: busy policies, streams, changes, routes, contexts, services."""

from __future__ import annotations

from .manager import DISPATCHER
from .mutant import Mutant

BUSY = "tests/core/test_busy.py"
PAIRWISE = "tests/turns/test_pairwise.py"
ROUTER = "tests/turns/test_default_router.py"
CONTEXT = "tests/turns/test_context.py"
EDITS = "tests/turns/test_edits.py"
GATHER = "tests/turns/test_gather.py"
SERVICES_FAILING = "tests/turns/test_services_failing.py"

CHANGES = "_changes.py"
EXTRAS = "_extras.py"
ROUTES = "_core/routes.py"

TURNS = (
    # -- a message meets a busy conversation -----------------------------------------------------
    Mutant(
        "settle without a maximum", "trap 14", "_core/busy.py",
        "min(now + settle, joinable.arrived + max_settle)",
        "now + settle",
        (BUSY,),
    ),
    Mutant(
        "steered past a turn that waits", "G2", "_core/busy.py",
        "running is not None and not waiting else",
        "running is not None else",
        (BUSY,),
    ),
    Mutant(
        "interrupt does not wait for the cleanup", "G2 G11 trap 6", CHANGES,
        '            dispatcher.interrupt(running, "superseded", now)\n',
        '            dispatcher.interrupt(running, "superseded", now)\n'
        "            if running.lane is not None:\n                running.lane.running = None\n"
        "                running.lane = type(running.lane)(running.key)\n"
        "                running.lane.running = running\n",
        (PAIRWISE,),
    ),
    Mutant(
        "what waits is not superseded", "G11", CHANGES,
        "            self._scheduler.cancel(record, now)\n"
        "            dispatcher.end(record, Superseded(by), now)\n",
        "            pass\n",
        (PAIRWISE,),
    ),
    Mutant(
        "shed for a message that needs no room", "trap 13", "_intake.py",
        "        own = not (replaces or isinstance(decision, (Join, Hand)))\n",
        "        own = True\n",
        (PAIRWISE,),
    ),
    Mutant(
        "uninterruptible is ignored", "G11", DISPATCHER,
        "record.extras.shields and by in (",
        "record.extras.shields < 0 and by in (",
        (PAIRWISE,),
    ),
    # -- turns with company ----------------------------------------------------------------------
    Mutant(
        "a merged sender gets no outcome", "G1", CHANGES,
        "            self._dispatcher.end(member, self._shared(record, member, outcome, now), now)\n",
        "",
        (PAIRWISE,),
    ),
    Mutant(
        "an unread steered message is lost", "G1", CHANGES,
        "                    self._scheduler.insert(unread, now)\n",
        "                    unread.place = DONE\n",
        (PAIRWISE,),
    ),
    Mutant(
        "a drain forgets what was steered", "G1 G12 trap 19", CHANGES,
        "                if self._dispatcher.aborted:\n",
        "                if self._dispatcher.debug is None:\n",
        (PAIRWISE,),
    ),
    # -- history ---------------------------------------------------------------------------------
    Mutant(
        "the partial reply is lost", "G11 trap 6", CHANGES,
        "        elif record.extras is not None and record.extras.pieces:\n",
        "        elif replied:\n",
        (PAIRWISE,),
    ),
    Mutant(
        "a rollback keeps the question", "G11", CHANGES,
        "nothing = record.attempt == 0 or rolled_back",
        "nothing = record.attempt == 0",
        (PAIRWISE,),
    ),
    # -- messages are taken back -----------------------------------------------------------------
    Mutant(
        "stop starts the next", "G1 trap 8", CHANGES,
        "        waiting = self._of(conversation, scheduler.waiting_entries())\n",
        "        waiting = self._of(conversation, [])\n",
        (PAIRWISE,),
    ),
    Mutant(
        "stop clears the head of the queue only", "trap 8", CHANGES,
        "        waiting = self._of(conversation, scheduler.waiting_entries())\n",
        "        waiting = self._of(conversation, scheduler.waiting_entries())[:1]\n",
        (PAIRWISE,),
    ),
    Mutant(
        "a retracted answer stays in the history", "retract", CHANGES,
        "            history.take_out(turn_id)\n",
        "            history.take_out(-turn_id)\n",
        (PAIRWISE,),
    ),
    Mutant(
        "side routes do not hear of an edit", "edit", "_corrections.py",
        "            self._intake.accept_edit(known.replace(text=text), self._now())\n",
        "            pass\n",
        (EDITS,),
    ),
    Mutant(
        "side routes that do not want edits get them", "edit", "_intake.py",
        "if route.edits and (route.when is None",
        "if not route.answers and (route.when is None",
        (EDITS,),
    ),
    Mutant(
        "a message that is shown anew is moderated again", "edit", "_corrections.py",
        "if known is not None and (record is None or known.text != text):",
        "if known is not None:",
        (EDITS,),
    ),
    Mutant(
        "an edit changes nothing", "edit", CHANGES,
        "        record.message = record.message.replace(text=text)\n",
        "",
        (PAIRWISE,),
    ),
    Mutant(
        "an edit costs an attempt", "edit preempt", "_attempts.py",
        "            record.attempt -= 1\n",
        "",
        (PAIRWISE,),
    ),
    Mutant(
        "retract does not wait for the cleanup", "G11", CHANGES,
        '        dispatcher.cancel(record, "retract", now)\n        await record.wait()\n',
        '        dispatcher.cancel(record, "retract", now)\n        await trio.lowlevel.checkpoint()\n',
        (PAIRWISE,),
    ),
    # -- streams ---------------------------------------------------------------------------------
    Mutant(
        "text of a retry is doubled in a stream", "trap 25", EXTRAS,
        "        for reader in self.readers():\n            reader.void()\n",
        "",
        (PAIRWISE,),
    ),
    Mutant(
        "a stream shows the first attempt only", "trap 25", "_streaming.py",
        "                self._sent.clear()\n",
        "                pass\n",
        (PAIRWISE,),
    ),
    Mutant(
        "who joined a turn reads nothing", "trap 13", EXTRAS,
        "        return own + [stream for stream in joined if stream is not None]\n",
        "        return own\n",
        (PAIRWISE,),
    ),
    Mutant(
        "a reader that leaves is written for", "G10", "_manager.py",
        "        finally:\n"
        '            self._dispatcher.cancel(record, "caller", self._now())\n            chunks.close()\n',
        "        finally:\n            chunks.close()\n",
        (PAIRWISE,),
    ),
    # -- routes ----------------------------------------------------------------------------------
    Mutant(
        "a flood passes by moderation", "trap 18", ROUTES,
        "                rate_limited=False, edits=True,\n",
        "                rate_limited=True, edits=True,\n",
        (ROUTER,),
    ),
    Mutant(
        "moderation waits for its conversation", "trap 18", ROUTES,
        '                "moderation", when=bad, priority=Priority.CRITICAL, ordered=False, answers=False,\n',
        '                "moderation", when=bad, priority=Priority.CRITICAL, ordered=True, answers=False,\n',
        (ROUTER,),
    ),
    Mutant(
        "a message demotes its moderation", "G4", ROUTES,
        "        if message.priority is not None and self.answers:\n",
        "        if message.priority is not None:\n",
        (ROUTER,),
    ),
    # -- contexts, analyzers, services -----------------------------------------------------------
    Mutant(
        "a context keyed by its name alone", "trap 24", "_context.py",
        "cache.look_up(session.conversation, name,",
        'cache.look_up("", name,',
        (CONTEXT,),
    ),
    Mutant(
        "a single flight is not single", "context", "_core/cache.py",
        "            if slot.flight is not None:\n                return self._join(slot.flight, caller)\n",
        "",
        (CONTEXT,),
    ),
    Mutant(
        "one analyzer sinks them all", "gather", "_gather.py",
        "        except Exception as error:\n            self._fail(name, error)\n",
        "        except Exception as error:\n            self._fail(name, error)\n            raise\n",
        (GATHER,),
    ),
    Mutant(
        "a service that fails takes others along", "services", "_services.py",
        "        except Exception as error:\n            self._failed(job, error)\n",
        "        except Exception as error:\n            self._failed(job, error)\n            raise\n",
        (SERVICES_FAILING,),
    ),
    Mutant(
        "services that wait for each other are not seen", "services", "_services.py",
        "        if holder is not None and (names := cycle(holder, job)):\n",
        "        if holder is job and (names := cycle(holder, job)):\n",
        (SERVICES_FAILING,),
    ),
)  # fmt: skip
