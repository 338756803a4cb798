from google.protobuf import any_pb2 as _any_pb2
from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Speed(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SPEED_UNKNOWN: _ClassVar[Speed]
    SPEED_NORMAL: _ClassVar[Speed]
    SPEED_EXPRESS: _ClassVar[Speed]
SPEED_UNKNOWN: Speed
SPEED_NORMAL: Speed
SPEED_EXPRESS: Speed

class Line(_message.Message):
    __slots__ = ("product", "count", "cents")
    PRODUCT_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    CENTS_FIELD_NUMBER: _ClassVar[int]
    product: str
    count: int
    cents: int
    def __init__(self, product: _Optional[str] = ..., count: _Optional[int] = ..., cents: _Optional[int] = ...) -> None: ...

class Order(_message.Message):
    __slots__ = ("number", "customer", "lines", "coupons", "notes", "gifts", "discount", "speed", "scan", "paid", "barcode", "placed", "home", "shop")
    class Recipient(_message.Message):
        __slots__ = ("name", "street")
        NAME_FIELD_NUMBER: _ClassVar[int]
        STREET_FIELD_NUMBER: _ClassVar[int]
        name: str
        street: str
        def __init__(self, name: _Optional[str] = ..., street: _Optional[str] = ...) -> None: ...
    class NotesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class GiftsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: Line
        def __init__(self, key: _Optional[int] = ..., value: _Optional[_Union[Line, _Mapping]] = ...) -> None: ...
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    CUSTOMER_FIELD_NUMBER: _ClassVar[int]
    LINES_FIELD_NUMBER: _ClassVar[int]
    COUPONS_FIELD_NUMBER: _ClassVar[int]
    NOTES_FIELD_NUMBER: _ClassVar[int]
    GIFTS_FIELD_NUMBER: _ClassVar[int]
    DISCOUNT_FIELD_NUMBER: _ClassVar[int]
    SPEED_FIELD_NUMBER: _ClassVar[int]
    SCAN_FIELD_NUMBER: _ClassVar[int]
    PAID_FIELD_NUMBER: _ClassVar[int]
    BARCODE_FIELD_NUMBER: _ClassVar[int]
    PLACED_FIELD_NUMBER: _ClassVar[int]
    HOME_FIELD_NUMBER: _ClassVar[int]
    SHOP_FIELD_NUMBER: _ClassVar[int]
    number: int
    customer: str
    lines: _containers.RepeatedCompositeFieldContainer[Line]
    coupons: _containers.RepeatedScalarFieldContainer[int]
    notes: _containers.ScalarMap[str, str]
    gifts: _containers.MessageMap[int, Line]
    discount: float
    speed: Speed
    scan: bytes
    paid: bool
    barcode: int
    placed: _timestamp_pb2.Timestamp
    home: Order.Recipient
    shop: str
    def __init__(self, number: _Optional[int] = ..., customer: _Optional[str] = ..., lines: _Optional[_Iterable[_Union[Line, _Mapping]]] = ..., coupons: _Optional[_Iterable[int]] = ..., notes: _Optional[_Mapping[str, str]] = ..., gifts: _Optional[_Mapping[int, Line]] = ..., discount: _Optional[float] = ..., speed: _Optional[_Union[Speed, str]] = ..., scan: _Optional[bytes] = ..., paid: bool = ..., barcode: _Optional[int] = ..., placed: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., home: _Optional[_Union[Order.Recipient, _Mapping]] = ..., shop: _Optional[str] = ...) -> None: ...

class Cancel(_message.Message):
    __slots__ = ("number",)
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    number: int
    def __init__(self, number: _Optional[int] = ...) -> None: ...

class Tree(_message.Message):
    __slots__ = ("value", "left", "more", "named", "notes", "anything", "line")
    class NamedEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Tree
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Tree, _Mapping]] = ...) -> None: ...
    VALUE_FIELD_NUMBER: _ClassVar[int]
    LEFT_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    NAMED_FIELD_NUMBER: _ClassVar[int]
    NOTES_FIELD_NUMBER: _ClassVar[int]
    ANYTHING_FIELD_NUMBER: _ClassVar[int]
    LINE_FIELD_NUMBER: _ClassVar[int]
    value: int
    left: Tree
    more: _containers.RepeatedCompositeFieldContainer[Tree]
    named: _containers.MessageMap[str, Tree]
    notes: _struct_pb2.Struct
    anything: _any_pb2.Any
    line: Line
    def __init__(self, value: _Optional[int] = ..., left: _Optional[_Union[Tree, _Mapping]] = ..., more: _Optional[_Iterable[_Union[Tree, _Mapping]]] = ..., named: _Optional[_Mapping[str, Tree]] = ..., notes: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., anything: _Optional[_Union[_any_pb2.Any, _Mapping]] = ..., line: _Optional[_Union[Line, _Mapping]] = ...) -> None: ...
