// Lua's values as JSON's, and back.
package main

import (
	"errors"
	"fmt"
	"math"
	"unicode/utf8"

	lua "github.com/yuin/gopher-lua"
)

// Deeper nesting is a table that holds itself.
const depthMax = 16

// Integers up to here are exact in Lua's numbers.
const integerMax = 1 << 53

func toLua(state *lua.LState, value any) lua.LValue {
	switch value := value.(type) {
	case bool:
		return lua.LBool(value)
	case float64:
		return lua.LNumber(value)
	case string:
		return lua.LString(value)
	case []any:
		table := state.NewTable()
		for _, item := range value {
			table.Append(toLua(state, item))
		}
		return table
	case map[string]any:
		table := state.NewTable()
		for name, item := range value {
			table.RawSetString(name, toLua(state, item))
		}
		return table
	}
	return lua.LNil
}

func fromLua(value lua.LValue, depth int) (any, error) {
	switch value := value.(type) {
	case *lua.LNilType:
		return nil, nil
	case lua.LBool:
		return bool(value), nil
	case lua.LNumber:
		return number(float64(value))
	case lua.LString:
		if !utf8.ValidString(string(value)) {
			return nil, errors.New("a text in the result is not UTF-8")
		}
		return string(value), nil
	case *lua.LTable:
		if depth == depthMax {
			return nil, errors.New("the result is nested too deeply")
		}
		return fromTable(value, depth)
	}
	return nil, fmt.Errorf("a result can't hold a %s", value.Type())
}

func number(value float64) (any, error) {
	if math.IsNaN(value) || math.IsInf(value, 0) {
		return nil, errors.New("a number in the result is not finite")
	}
	if value == math.Trunc(value) && math.Abs(value) <= integerMax {
		return int64(value), nil
	}
	return value, nil
}

// fromTable makes a list of what has the keys 1 to n, and an object of what has names.
func fromTable(table *lua.LTable, depth int) (any, error) {
	list, names := []any{}, map[string]any{}
	var wrong error
	for key, value := table.Next(lua.LNil); key != lua.LNil && wrong == nil; key, value = table.Next(key) {
		var item any
		item, wrong = fromLua(value, depth+1)
		if name, ok := key.(lua.LString); ok {
			names[string(name)] = item
		} else if key == lua.LNumber(len(list)+1) {
			list = append(list, item)
		} else if wrong == nil {
			wrong = errors.New("a table in the result is neither a list nor has it names only")
		}
	}
	if wrong == nil && len(list) > 0 && len(names) > 0 {
		wrong = errors.New("a table in the result is both a list and has names")
	}
	if len(list) > 0 {
		return list, wrong
	}
	return names, wrong
}
