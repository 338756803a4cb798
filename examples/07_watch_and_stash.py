"""Watch and stash: learn of another actor's end, and put aside what cannot be handled yet.

A harbour carries cargo with whatever ferry is there. A ferry retires after two crossings; the harbour, which watches
it, orders another one and stashes the cargo meanwhile. Every load gets across, in its order, and is answered.

Run: python examples/07_watch_and_stash.py
"""

import anyio

from actors import Actor, ActorRef, ActorSystem, DeliveryError, Message, Restart, Terminated, handles, run


class Carry(Message[str]):
    cargo: str


class FerryBuilt(Message[None]):
    pass


class Ferry(Actor):
    def __init__(self, number: int) -> None:
        self.number, self.crossings = number, 0

    @handles(Carry)
    async def carry(self, load: Carry) -> str:
        self.crossings += 1
        if self.crossings == 2:
            self.stop()  # by its own wish: takes no more mail, and ends when this is done
        return f"{load.cargo} by ferry {self.number}"


class Harbour(Actor):
    def __init__(self) -> None:
        self.ferry: ActorRef[Ferry] | None = None
        self.built = 0

    async def on_start(self) -> None:
        self.after(0.01, FerryBuilt())

    @handles(FerryBuilt)
    async def begin(self, _: FerryBuilt) -> None:
        self.built += 1
        self.ferry = await self.spawn(Ferry, self.built, name=f"ferry-{self.built}", restart=Restart.TEMPORARY)
        self.watch(self.ferry)
        self.unstash()  # back to the head of the mailbox, in the order in which it came

    @handles(Terminated)
    async def ferry_gone(self, end: Terminated) -> None:
        print(f"  {end.address} has {end.reason}, another one is ordered")
        self.ferry = None
        self.after(0.01, FerryBuilt())

    @handles(Carry)
    async def carry(self, load: Carry) -> str:
        if self.ferry is not None:
            try:
                return await self.ferry.ask(load)
            except DeliveryError:
                self.ferry = None  # it has just retired and has not seen the load: trying again is safe
        self.stash()
        return "later"  # nobody sees this: a stashed message is answered when it is handled after all


async def main() -> None:
    async with ActorSystem("harbour") as system:
        harbour = await system.spawn(Harbour, name="harbour")

        async def send(cargo: str) -> None:
            print(await harbour.ask(Carry(cargo=cargo)))

        async with anyio.create_task_group() as senders:
            for cargo in ("apples", "books", "chairs", "drums", "eggs"):
                senders.start_soon(send, cargo)


if __name__ == "__main__":
    run(main)
