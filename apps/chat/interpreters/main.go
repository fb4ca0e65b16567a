// Runs one Lua program inside WebAssembly: the task comes as JSON on descriptor 0, the answer goes as JSON to
// descriptor 3, what the program prints to 1. The walls are the host's; what is hidden here is hidden so that a
// program is told in plain words, with its line, what it can't have.
package main

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"

	lua "github.com/yuin/gopher-lua"
	"github.com/yuin/gopher-lua/parse"
)

const (
	// Collect garbage only when it must be: most runs end before. The host allows 64 MiB.
	memoryBytesSoft = 40 << 20
	// Of Go's own stack, which the parser and pattern matching use.
	goStackBytesMax = 4 << 20
	callDepthMax    = 200
	registryMax     = 1 << 16
	answer          = 3
)

type task struct {
	Source    string `json:"source"`
	Input     any    `json:"input"`
	NowMs     int64  `json:"nowMs"`
	Seed      string `json:"seed"`
	OnlyCheck bool   `json:"onlyCheck"`
}

type failure struct {
	Error  string `json:"error"`
	Detail string `json:"detail"`
	Line   *int   `json:"line"`
}

var errNoHandle = errors.New("there is no function named handle")

func main() {
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(memoryBytesSoft)
	debug.SetMaxStack(goStackBytesMax)
	request, err := io.ReadAll(os.Stdin)
	if err != nil {
		panic(err)
	}
	var given task
	if err := json.Unmarshal(request, &given); err != nil {
		panic(err)
	}
	send(call(given))
}

func call(given task) any {
	state := lua.NewState(lua.Options{
		SkipOpenLibs:        true,
		MinimizeStackMemory: true,
		CallStackSize:       callDepthMax,
		RegistrySize:        1024,
		RegistryMaxSize:     registryMax,
	})
	open(state, given)
	program, err := state.Load(strings.NewReader(given.Source), "script")
	if err != nil {
		return described(err, given.Source)
	}
	result, err := handle(state, program, given)
	if err != nil {
		return described(err, given.Source)
	}
	value, err := fromLua(result, 0)
	if err != nil {
		return failure{Error: "bad_result", Detail: err.Error()}
	}
	return map[string]any{"result": value}
}

func handle(state *lua.LState, program *lua.LFunction, given task) (lua.LValue, error) {
	if err := state.CallByParam(lua.P{Fn: program, Protect: true}); err != nil {
		return nil, err
	}
	function, ok := state.GetGlobal("handle").(*lua.LFunction)
	if !ok {
		return nil, errNoHandle
	}
	if given.OnlyCheck {
		return lua.LNil, nil
	}
	err := state.CallByParam(lua.P{Fn: function, NRet: 1, Protect: true}, toLua(state, given.Input))
	return state.Get(-1), err
}

// described tells of an error in the program, `err`, with its line where that is known.
func described(err error, source string) failure {
	var wrong *parse.Error
	var raised *lua.ApiError
	detail := err.Error()
	if errors.As(err, &raised) {
		detail = raised.Object.String()
		if raised.Type == lua.ApiErrorSyntax && errors.As(raised.Cause, &wrong) {
			return failure{Error: "script_error", Detail: "syntax error: " + wrong.Message + " near " + wrong.Token,
				Line: lineOf(wrong, source)}
		}
	}
	line, detail := placed(detail)
	return failure{Error: kindOf(detail), Detail: detail, Line: line}
}

// placed parts "script:3: what" into its line, nil if it has none, and what.
func placed(detail string) (*int, string) {
	place, what, _ := strings.Cut(detail, ": ")
	digits, found := strings.CutPrefix(place, "script:")
	line, err := strconv.Atoi(digits)
	if !found || err != nil {
		return nil, detail
	}
	return &line, what
}

func lineOf(wrong *parse.Error, source string) *int {
	line := wrong.Pos.Line
	if line == parse.EOF {
		line = 1 + strings.Count(strings.TrimRight(source, "\n"), "\n")
	}
	return &line
}

func kindOf(detail string) string {
	switch {
	case strings.HasPrefix(detail, forbidden):
		return "forbidden"
	case strings.Contains(detail, "stack overflow"), strings.Contains(detail, "registry overflow"),
		strings.Contains(detail, "callstack overflow"):
		return "recursion"
	}
	return "script_error"
}

func send(value any) {
	encoded, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	for len(encoded) > 0 {
		written, err := syscall.Write(answer, encoded)
		if err != nil {
			panic(err)
		}
		encoded = encoded[written:]
	}
}
