"""What can go wrong for good between ccm and Discord."""

from __future__ import annotations

from ccm._errors import Busy, CcmError

TOKEN = 4004
CLOSE_CODES = {
    TOKEN: "the token was reset or revoked, or is no bot's; get a new one in the developer portal, put it "
    "into DISCORD_TOKEN and start again. Nothing that a storage holds is lost: it is answered then",
    4010: "the shard is not valid; shard_ids must lie below shards",
    4011: "this bot is in so many guilds that it must be sharded; raise shards",
    4012: "this version of the gateway is not served any more; update ccm",
    4013: "intents holds a bit that does not exist",
    4014: "intents asks for a privileged intent; switch it on in the developer portal, or leave it out",
}
"""Close codes after which trying again is of no use, with what to do."""


class DiscordError(CcmError):
    """Base of everything that `ccm.discord` raises on purpose."""


class GatewayClosed(DiscordError):
    """The gateway is closed, for a reason that connecting again does not mend; the text says what to do.

    Attributes:
        code: Discord's close code. 4004, the token is not accepted, also when a request was refused for that.
        request: which one that was (401); empty when Discord closed the gateway itself.
    """

    def __init__(self, code: int, request: str = "") -> None:
        super().__init__(code, request)
        self.code = code
        self.request = request

    def __str__(self) -> str:
        what = f"Discord closed the gateway with code {self.code}"
        if self.request:
            what = f"{self.request}: Discord does not accept the token (401, as close code {self.code})"
        return f"{what}: {CLOSE_CODES.get(self.code, 'unknown')}"


class IdentifyRefused(DiscordError):
    """So many sessions were begun in a day that Discord is about to reset the token: none was begun.

    Attributes:
        retry_after: seconds after which one more may be begun.
    """

    def __init__(self, retry_after: float) -> None:
        super().__init__(retry_after)
        self.retry_after = retry_after

    def __str__(self) -> str:
        return (
            f"no new session is begun for {self.retry_after:.0f} s: almost all of the day are used up, and "
            "after the last one Discord would reset the token; find out why the bot keeps connecting anew"
        )


class RestError(DiscordError):
    """Discord refused a request, or could not be asked.

    Attributes:
        status: HTTP status; 0 when there was no answer.
        code: Discord's own code of the error, 0 when unknown.
        text: what Discord said.
        repeated: an earlier attempt of the same request had no clear answer, so it may have been carried out.
    """

    def __init__(self, request: str, status: int, code: int = 0, text: str = "") -> None:
        super().__init__(request, status, code, text)
        self.request = request
        self.status = status
        self.code = code
        self.text = text
        self.repeated = False

    def __str__(self) -> str:
        if not self.status:
            return f"{self.request}: no answer from Discord ({self.text})"
        return f"{self.request}: Discord answered {self.status} (code {self.code}): {self.text}"


class RestStopped(RestError):
    """Requests are held back, so that this machine or token is not banned; nothing was sent.

    Attributes:
        retry_after: seconds after which they are let through again; infinite: not in this process.
    """

    def __init__(self, request: str, text: str, retry_after: float) -> None:
        super().__init__(request, 0, 0, text)
        self.args = (request, text, retry_after)
        self.retry_after = retry_after

    def __str__(self) -> str:
        return f"{self.request}: not sent, {self.text}"


LONGEST_WAIT = 86_400.0
"""Seconds until a request is tried again that this process will not send any more."""


def for_good(error: RestError) -> bool:
    """Whether Discord does not want a request, however often it is asked; a 401 is about the token."""
    return 400 <= error.status < 500 and error.status != 401


def held_back(error: RestError) -> Busy | None:
    """What a manager is to be told of a request that is held back, or whose token is not accepted: to wait.

    None: of no other error. A day stands for "not in this process": what waits so long is still there when
    the process ends, and a storage hands it to the next one.
    """
    if isinstance(error, RestStopped):
        return Busy(min(max(error.retry_after, 0.0), LONGEST_WAIT))
    return Busy(LONGEST_WAIT) if error.status == 401 else None


def as_closed(error: RestError) -> DiscordError:
    """The error that ends everything, if it is a 401; else itself."""
    return GatewayClosed(TOKEN, error.request) if error.status == 401 else error
