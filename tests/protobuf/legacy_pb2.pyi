from google.protobuf.internal import python_message as _python_message
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor
MOTTO_FIELD_NUMBER: _ClassVar[int]
motto: _descriptor.FieldDescriptor
FRIEND_FIELD_NUMBER: _ClassVar[int]
friend: _descriptor.FieldDescriptor

class Customer(_message.Message):
    __slots__ = ("name", "nickname", "card")
    Extensions: _python_message._ExtensionDict
    class Card(_message.Message):
        __slots__ = ("number",)
        NUMBER_FIELD_NUMBER: _ClassVar[int]
        number: int
        def __init__(self, number: _Optional[int] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    NICKNAME_FIELD_NUMBER: _ClassVar[int]
    CARD_FIELD_NUMBER: _ClassVar[int]
    name: str
    nickname: str
    card: Customer.Card
    def __init__(self, name: _Optional[str] = ..., nickname: _Optional[str] = ..., card: _Optional[_Union[Customer.Card, _Mapping]] = ...) -> None: ...
