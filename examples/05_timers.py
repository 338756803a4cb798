"""Timers: an actor sends itself a message later, or every so often, under a key.

A notifier gathers what happens and sends one digest when nothing more has happened for a while (setting a timer
again under the same key puts it off), and ticks meanwhile.

Run: python examples/05_timers.py
"""

import anyio

from actors import Actor, ActorSystem, Message, handles, run


class Happened(Message[None]):
    what: str


class SendDigest(Message[None]):
    pass


class Tick(Message[None]):
    pass


class Notifier(Actor):
    def __init__(self, quiet: float) -> None:
        self.quiet = quiet
        self.gathered: list[str] = []
        self.ticks = 0

    async def on_start(self) -> None:
        self.every(0.01, Tick(), key="clock")

    @handles(Happened)
    async def gather(self, event: Happened) -> None:
        self.gathered.append(event.what)
        self.after(self.quiet, SendDigest())  # the key is the message's type, unless one is given

    @handles(SendDigest)
    async def send(self, _: SendDigest) -> None:
        print(f"digest of {len(self.gathered)}: {', '.join(self.gathered)}")
        self.gathered.clear()

    @handles(Tick)
    async def tick(self, _: Tick) -> None:
        self.ticks += 1
        if self.ticks == 3:
            print("three ticks are enough")
            self.cancel("clock")  # no tick after this one, not even one that is in the mailbox already


async def main() -> None:
    async with ActorSystem("timers") as system:
        notifier = await system.spawn(Notifier, quiet=0.25)
        for what in ("a door opens", "somebody coughs", "the door shuts"):
            await notifier.tell(Happened(what=what))
            await anyio.sleep(0.01)
        await anyio.sleep(0.3)
        await notifier.tell(Happened(what="an owl"))
        await anyio.sleep(0.3)


if __name__ == "__main__":
    run(main)
