"""A guest for tests of real migrations: a firmware that notices one lost or torn page, and says so.

The image is QEMU's `-bios`; it needs no kernel, no disk and no more than the interval timer, the CMOS clock and
the serial port that every PC has. It fills its memory from 1 MiB up, then for ever writes pages of its working
set at a given rate, in order, checking each word for word before, and walks over all memory checking meanwhile.
Ten times a second of its own time it prints the next number, as eight hexadecimal digits and a newline. For a page
that is not what it must be it prints `BAD` and the page's address, and goes on.

What a page must be follows from its address and from how often the writer, whose place is kept in registers, has
come by: so a page of an older round and one of two rounds are told at their next look. Every eighth round writes
zeros.

An emulated processor of QEMU 7.2 may go on writing to a page for good after its dirty log was read without being
logged (seen between two stock QEMUs: the page written most comes stale). So what was written is written once more
through a new entry of the translation buffer: what is judged is the migration, and not that race.
"""

from __future__ import annotations

import re
import struct

IMAGE_BYTES = 64 << 10
FIRST_BYTE = 1 << 20
"""Where the memory begins that is filled and checked; below lie the guest's stack and variables."""
MAX_RATE_BYTES_S = 60_000 * 4096
NUMBERS_S = 10

_TICKS_S = 1_193_182  # the interval timer's
_BURST_PAGES = 16  # written at most before it goes on checking, and caught up with at most
_LOADED_AT = 0xFFFF0000
_JUMP_AT = 0xFFF0  # where a processor begins

# Machine code, by label: in each line the bytes, then what they are. `:label` is a distance of 8 bits, `::label`
# one of 32, `.label` an offset of 16 bits, `@name` 32 bits: a constant, or the address of a variable or a label.
_CODE = """
start    FA                     cli
         66 2E 0F 01 16 .gdtr   lgdt [cs:gdtr]
         0F 20 C0               mov eax, cr0
         0C 01                  or al, 1
         0F 22 C0               mov cr0, eax
         66 EA @flat 08 00      jmp 8:flat
flat     B8 10 00 00 00         mov eax, 16
         8E D8 8E C0 8E D0      mov ds, ax; mov es, ax; mov ss, ax
         BC 00 70 00 00         mov esp, 0x7000
         B0 34 E6 43            timer 0 counts down from 65536
         30 C0 E6 40 E6 40      xor al, al; out 0x40, al; out 0x40, al
         B0 35 E6 70 E4 71      CMOS: the memory above 16 MiB, in units of 64 KiB
         88 C4                  mov ah, al
         B0 34 E6 70 E4 71      mov al, 0x34; out 0x70, al; in al, 0x71
         0F B7 C0 C1 E0 10      movzx eax, ax; shl eax, 16
         05 00 00 00 01         add eax, 16 MiB
         A3 @top                mov [top], eax
         2D @zero_bytes         sub eax, zero_bytes
         A3 @filled             mov [filled], eax
         B9 @hot_limit          mov ecx, hot_limit
         39 C1 0F 47 C8         cmp ecx, eax; cmova ecx, eax
         89 0D @hot             mov [hot], ecx
         BF @first              mov edi, first
fill     89 F8                  mov eax, edi
         B9 00 04 00 00 F3 AB   mov ecx, 1024; rep stosd
         3B 3D @filled          cmp edi, [filled]
         72 :fill               jb fill
         BE @first              mov esi, first      the writer's place
         BD @first              mov ebp, first      the checker's
         BB 01 00 00 00         mov ebx, 1          the writer's round
         E8 ::say               call say
main     0F 01 3D @top          invlpg [top]
         E8 ::tick              call tick
write    81 3D @credit @cost    cmp [credit], cost
         72 :look               jb look
         81 2D @credit @cost    sub [credit], cost
         89 F7 E8 ::check       mov edi, esi; call check
         89 F7 89 F2 89 D9      mov edi, esi; mov edx, esi; mov ecx, ebx
         E8 ::value             call value
         B9 00 04 00 00 F3 AB   mov ecx, 1024; rep stosd
         0F 01 3E 89 06         invlpg [esi]; mov [esi], eax
         89 FE                  mov esi, edi
         3B 35 @hot             cmp esi, [hot]
         72 :write              jb write
         BE @first 43           mov esi, first; inc ebx
         EB :write              jmp write
look     89 EF E8 ::check       mov edi, ebp; call check
         89 FD                  mov ebp, edi
         3B 2D @top             cmp ebp, [top]
         72 :main               jb main
         BD @first              mov ebp, first
         EB :main               jmp main
check    89 FA E8 ::expected    mov edx, edi; call expected
         57                     push edi
         B9 00 04 00 00 F3 AF   mov ecx, 1024; repe scasd
         5F                     pop edi
         74 :good               je good
         B0 42 E8 ::put         'B'
         B0 41 E8 ::put         'A'
         B0 44 E8 ::put         'D'
         B0 20 E8 ::put         ' '
         89 FA E8 ::hex         mov edx, edi; call hex
good     81 C7 00 10 00 00 C3   add edi, 4096; ret
expected 31 C0                  xor eax, eax        of the page at edx
         3B 15 @filled          cmp edx, [filled]
         73 :known              jae known           still zero
         89 D0                  mov eax, edx
         3B 15 @hot             cmp edx, [hot]
         73 :known              jae known           written once
         89 D9                  mov ecx, ebx
         39 F2 F5 83 D9 00      cmp edx, esi; cmc; sbb ecx, 0
value    69 C1 B1 79 37 9E      imul eax, ecx, 0x9E3779B1   of round ecx
         F7 D1 F6 C1 07         not ecx; test cl, 7
         74 :zeros              jz zeros
         31 D0 C3               xor eax, edx; ret
zeros    31 C0                  xor eax, eax
known    C3                     ret
tick     30 C0 E6 43            xor al, al; out 0x43, al    latch timer 0
         E4 40 88 C4 E4 40      in al, 0x40; mov ah, al; in al, 0x40
         86 C4 0F B7 C0         xchg al, ah; movzx eax, ax
         8B 0D @last            mov ecx, [last]
         A3 @last               mov [last], eax
         29 C1 0F B7 C9         sub ecx, eax; movzx ecx, cx
         01 0D @elapsed         add [elapsed], ecx
         B8 @rate F7 E1         mov eax, rate; mul ecx
         03 05 @credit          add eax, [credit]
         B9 @burst              mov ecx, burst
         39 C8 0F 47 C1         cmp eax, ecx; cmova eax, ecx
         A3 @credit             mov [credit], eax
         81 3D @elapsed @period cmp [elapsed], period
         73 :due                jae due
         C3                     ret
due      81 2D @elapsed @period sub [elapsed], period
         FF 05 @count           inc [count]
say      8B 15 @count           mov edx, [count]
hex      B9 08 00 00 00         mov ecx, 8
digit    C1 C2 04 88 D0 24 0F   rol edx, 4; mov al, dl; and al, 15
         3C 0A 1C 69 2F         cmp al, 10; sbb al, 0x69; das
         E8 ::put               call put
         E2 :digit              loop digit
         B0 0A                  mov al, 10
put      52 88 C4               push edx; mov ah, al
         66 BA FD 03            mov dx, 0x3FD
busy     EC A8 20               in al, dx; test al, 0x20
         74 :busy               jz busy
         B2 F8 88 E0 EE         mov dl, 0xF8; mov al, ah; out dx, al
         5A C3                  pop edx; ret
gdt      00 00 00 00 00 00 00 00
         FF FF 00 00 00 9B CF 00
         FF FF 00 00 00 93 CF 00
gdtr     17 00 @gdt
"""
_LINE = re.compile(r"(?P<label>\w+)? +(?P<code>(?:(?:[0-9A-F]{2}|[:@.]\S+)(?: |$))+)")
_VARIABLES = ("top", "filled", "hot", "last", "elapsed", "credit", "count")
_VARIABLES_AT = 0x6000


def image(rate_bytes_s: int, working_set_bytes: int | None = None, zero_bytes: int = 1 << 20) -> bytes:
    """The firmware for a guest of at least 32 MiB, which writes `rate_bytes_s` of its memory a second of its time.

    `working_set_bytes`, from 1 MiB up, are written over and over, by default all that is filled; the last
    `zero_bytes` of memory stay zero. A guest that is too slow for the rate writes as fast as it can. Raises
    ValueError for what is no whole number of pages, or a rate above MAX_RATE_BYTES_S.
    """
    hot_bytes = (3 << 30) if working_set_bytes is None else working_set_bytes
    if hot_bytes % 4096 or zero_bytes % 4096 or not 0 <= zero_bytes <= 16 << 20 or not 0 < hot_bytes <= 3 << 30:
        raise ValueError(f"no test guest with {hot_bytes} bytes written over and {zero_bytes} bytes zero")
    if not 0 <= rate_bytes_s <= MAX_RATE_BYTES_S:
        raise ValueError(f"no test guest writes {rate_bytes_s} bytes/s; the limit is {MAX_RATE_BYTES_S}")
    names = {name: _VARIABLES_AT + 4 * index for index, name in enumerate(_VARIABLES)} | {
        "zero_bytes": zero_bytes,
        "first": FIRST_BYTE,
        "hot_limit": FIRST_BYTE + hot_bytes,
        "rate": rate_bytes_s // 4096,
        "cost": _TICKS_S,
        "burst": _TICKS_S * _BURST_PAGES,
        "period": _TICKS_S // NUMBERS_S,
    }
    code = _assemble(names)
    jump = b"\xe9" + struct.pack("<H", IMAGE_BYTES - _JUMP_AT - 3)  # to the image's first byte, modulo 64 KiB
    return code.ljust(_JUMP_AT, b"\0") + jump.ljust(IMAGE_BYTES - _JUMP_AT, b"\0")


def _assemble(names: dict[str, int]) -> bytes:
    lines = [match for line in _CODE.splitlines() if (match := _LINE.match(line)) is not None]
    places: dict[str, int] = {}
    place = 0
    for line in lines:
        if line["label"]:
            places[line["label"]] = place
        place += sum(_size(token) for token in line["code"].split())
    names = names | {name: _LOADED_AT + offset for name, offset in places.items()}
    code = b""
    for token in (token for line in lines for token in line["code"].split()):
        after = len(code) + _size(token)
        if token.startswith("::"):
            code += struct.pack("<i", places[token[2:]] - after)
        elif token.startswith(":"):
            code += struct.pack("<b", places[token[1:]] - after)
        elif token.startswith("."):
            code += struct.pack("<H", places[token[1:]])
        elif token.startswith("@"):
            code += struct.pack("<I", names[token[1:]])
        else:
            code += bytes.fromhex(token)
    return code


def _size(token: str) -> int:
    return 4 if token.startswith(("::", "@")) else 2 if token.startswith(".") else 1
