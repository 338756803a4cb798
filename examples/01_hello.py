"""Hello: one actor with a state of its own, spoken to by tell and ask.

Run: python examples/01_hello.py
"""

from actors import Actor, ActorSystem, Message, handles, run


class Greet(Message[str]):  # the type of the reply belongs to the message
    who: str


class Forget(Message[None]):
    pass


class Greeter(Actor):
    def __init__(self, greeting: str) -> None:
        self.greeting, self.seen = greeting, 0  # nobody but this actor can reach it, one message at a time

    @handles(Greet)
    async def greet(self, message: Greet) -> str:  # what it returns is the reply
        self.seen += 1
        return f"{self.greeting}, {message.who}! (#{self.seen})"

    @handles(Forget)
    async def forget(self, _: Forget) -> None:
        self.seen = 0


async def main() -> None:
    async with ActorSystem("hello") as system:
        greeter = await system.spawn(Greeter, "hello", name="greeter")
        print(await greeter.ask(Greet(who="world")))  # ask: wait for the reply; mypy knows it is a str
        print(await greeter.ask(Greet(who="moon")))
        await greeter.tell(Forget())  # tell: go on as soon as the mailbox has accepted it
        print(await greeter.ask(Greet(who="sun")))


if __name__ == "__main__":
    run(main)
