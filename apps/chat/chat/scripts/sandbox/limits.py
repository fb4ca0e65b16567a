"""Every bound of the sandbox, with its unit and its reason."""

SOURCE_BYTES_MAX = 64 * 1024
"""Of one program: FAULTS §3e."""
INPUT_BYTES_MAX = 256 * 1024
RESULT_BYTES_MAX = 256 * 1024
"""As JSON: a result is at most ten replies of 4 KiB, escaped sixfold."""
OUTPUT_BYTES_MAX = 64 * 1024
"""Of what a program prints."""
WRITE_BYTES_MIN = 16
"""What a write counts for at least: a million empty ones must not keep the host busy."""
HOST_CALLS_MAX = 1000
"""Of one run, writes aside: interpreters need about 30 to start and to finish."""
DETAIL_CHARACTERS_MAX = 500
"""Of what is told about an error."""
REPLIES_MAX = 10
BODY_BYTES_MAX = 4096

FUEL = 1_000_000_000
"""Of one run, in WebAssembly operations: a tenth to a fifth of a second. The plainest rewriting of the longest message,
which appends its 4,096 characters one by one, takes 640 million in Python, whose interpreter looks for room from the
start of its heap each time; 77 million in Lua. To start takes 6 million in Lua and 8 million in Python."""
MEMORY_BYTES_MAX = 64 << 20
"""Of the linear memory of one run: S3's authors recommend 32 to 64 MiB."""
WASM_STACK_BYTES_MAX = 2 << 20
"""Well below the 8 MiB of the main thread, which the host's own frames share."""
TABLES_MAX = 8
TABLE_ELEMENTS_MAX = 20_000
"""Lua's interpreter has 3,500 functions."""

RUN_SECONDS_MAX = 15.0
"""S3. Fuel ends a program a hundred times earlier: whoever takes this long hangs."""
START_SECONDS_MAX = 30.0
"""For a worker to be ready: it takes half a second."""
WORKERS_MAX = 8
"""S3: eight at once."""
WAITING_MAX = 256
"""Tasks that wait for a worker: about a second's work of two. More are refused."""
RUNS_MAX = 1000
"""Of one worker until it is replaced: whatever it leaks ends with it. (Each run has a process of its own besides.)"""

ADDRESS_SPACE_BYTES_MAX = 2 << 30
"""Of a worker: 64 MiB for the program, the rest for Python, wasmtime and their guard pages."""
CPU_SECONDS_MAX = 10
"""Of one run's process, as a second line behind the fuel."""
FRAME_BYTES_MAX = 1 << 20
"""Between pool and worker: source, input and their JSON escapes fit; nothing else comes."""
