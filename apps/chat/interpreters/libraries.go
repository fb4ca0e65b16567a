// What Lua programs find around them: the language's own functions, tables, strings, mathematics and coroutines. Time
// and randomness are the task's.
package main

import (
	"math/rand/v2"
	"strconv"

	lua "github.com/yuin/gopher-lua"
)

const forbidden = "forbidden: "

func open(state *lua.LState, given task) {
	for _, library := range []lua.LGFunction{
		lua.OpenBase, lua.OpenTable, lua.OpenString, lua.OpenMath, lua.OpenCoroutine,
	} {
		state.Push(state.NewFunction(library))
		state.Call(0, 0)
	}
	for _, name := range []string{"dofile", "loadfile", "require", "module"} {
		state.SetGlobal(name, state.NewFunction(refuse(name)))
	}
	for _, name := range []string{"_printregs", "newproxy", "collectgarbage"} {
		state.SetGlobal(name, lua.LNil)
	}
	for _, name := range []string{"io", "debug", "package", "os"} {
		state.SetGlobal(name, refusing(state, name))
	}
	state.GetGlobal("os").(*lua.LTable).RawSetString("time", state.NewFunction(func(state *lua.LState) int {
		state.Push(lua.LNumber(given.NowMs / 1000))
		return 1
	}))
	openRandom(state, given.Seed)
}

func refuse(name string) lua.LGFunction {
	return func(state *lua.LState) int {
		state.RaiseError("%s%s is not possible here", forbidden, name)
		return 0
	}
}

// refusing returns a library that has nothing, and says so.
func refusing(state *lua.LState, library string) *lua.LTable {
	table, meta := state.NewTable(), state.NewTable()
	meta.RawSetString("__index", state.NewFunction(func(state *lua.LState) int {
		return refuse(library + "." + state.ToString(2))(state)
	}))
	table.Metatable = meta
	return table
}

func openRandom(state *lua.LState, seed string) {
	first, _ := strconv.ParseUint(seed[:16], 16, 64) // hexadecimal by the host
	second, _ := strconv.ParseUint(seed[16:], 16, 64)
	source := rand.NewPCG(first, second)
	random := rand.New(source)
	library := state.GetGlobal("math").(*lua.LTable)
	library.RawSetString("randomseed", state.NewFunction(func(state *lua.LState) int {
		source.Seed(uint64(state.CheckInt64(1)), 0)
		return 0
	}))
	library.RawSetString("random", state.NewFunction(func(state *lua.LState) int {
		if state.GetTop() == 0 {
			state.Push(lua.LNumber(random.Float64()))
			return 1
		}
		low, high := int64(1), state.CheckInt64(1)
		if state.GetTop() > 1 {
			low, high = high, state.CheckInt64(2)
		}
		if high < low || high-low < 0 {
			state.ArgError(state.GetTop(), "interval is empty")
		}
		state.Push(lua.LNumber(low + random.Int64N(high-low+1)))
		return 1
	}))
}
