"""Supervision: what fails is restarted with fresh state, and so is whoever depends on it.

A line of three actors, each of which asks the next. `REST_FOR_ONE` restarts the one that failed and those started
after it. Only the message that failed is lost, and even that becomes a dead letter in the log: the rest of the mail
waits through the restart.

Run: python examples/02_supervision.py
"""

from actors import Actor, ActorSystem, Backoff, ChildSpec, HandlerFailed, Message, Strategy, handles, run
from actors.events import ActorStarted


class Read(Message[int]):
    text: str


class Parse(Message[int]):
    word: str


class Add(Message[int]):
    number: int


class Reader(Actor):
    @handles(Read)
    async def read(self, message: Read) -> int:
        parser = self.system.ref("/line/parser", Parser)
        return [await parser.ask(Parse(word)) for word in message.text.split()][-1]


class Parser(Actor):
    @handles(Parse)
    async def parse(self, message: Parse) -> int:
        adder = self.system.ref("/line/adder", Adder)
        return await adder.ask(Add(int(message.word)))  # int("three") raises. Let it crash.


class Adder(Actor):
    def __init__(self) -> None:
        self.sum = 0

    @handles(Add)
    async def add(self, message: Add) -> int:
        self.sum += message.number
        return self.sum


async def main() -> None:
    async with ActorSystem("supervision") as system:
        system.subscribe(ActorStarted, lambda event: print(f"  {event.address} starts"))
        await system.supervise(
            ChildSpec(Reader, name="reader"),
            ChildSpec(Parser, name="parser", backoff=Backoff(initial=0.01, cap=1.0)),
            ChildSpec(Adder, name="adder"),
            strategy=Strategy.REST_FOR_ONE,
            intensity=3,  # at most three restarts within five seconds; one more, and the supervisor itself fails
            period=5.0,
            name="line",
        )
        reader = system.ref("/line/reader", Reader)
        print("the sum is", await reader.ask(Read(text="1 2 3")))

        parser = system.ref("/line/parser", Parser)
        try:
            await parser.ask(Parse(word="three"))
        except HandlerFailed as error:
            print("the parser failed:", error)
        # The reader goes on; parser and adder come back; this message waits for them in the mailbox.
        print("the sum is", await parser.ask(Parse(word="4")))


if __name__ == "__main__":
    run(main)
