package tools

import (
	"context"
	"fmt"
	"strings"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"
)

// prompt is a way of working that a person can start with.
type prompt struct {
	name, title, description string
	arguments                []promptArgument
	text                     func(arg func(name string) string) string
}

type promptArgument struct {
	name, description string
	required          bool
}

// longestPromptArgument bounds what a person puts into a prompt, in characters.
const longestPromptArgument = 2000

func prompts() []prompt {
	return []prompt{
		{
			name: "run_repository", title: "Run a repository in a microVM",
			description: "Build and run a project in a fresh microVM, and say what it takes",
			arguments: []promptArgument{
				{"source", "Folder on this host, or the URL of a git repository", true},
				{"goal", "What to run; default: its tests", false},
			},
			text: func(arg func(string) string) string {
				return fmt.Sprintf(`Get this project to run in a microVM of its own: %s
Goal: %s

1. create_vm with a name, or reuse the VM of this task (list_vms).
2. Bring the source in: cp_to_vm for a folder of this host; for a URL, git clone with exec.
3. Read its README and build files (list_files, read_file) before you install anything.
4. Install what it needs and run it with exec. What takes long goes on as a process: read_process waits for it.
5. Report the exact commands that worked, what failed on the way, and the result. Copy files that matter out with cp_from_vm.
6. delete_vm, unless I want to keep it.`, arg("source"), orElse(arg("goal"), "run its tests"))
			},
		},
		{
			name: "try_ways", title: "Try several ways and keep the best",
			description: "Try several solutions side by side, each in a microVM of its own, and keep the best",
			arguments: []promptArgument{
				{"task", "What is to be solved", true},
				{"ways", "How many ways; default: 3", false},
				{"measure", "How to tell which is best; default: it works, then it is simple", false},
			},
			text: func(arg func(string) string) string {
				return fmt.Sprintf(`Solve this in several ways, side by side, and keep the best: %s
Ways: %s. The best is: %s.

1. list_host_groups tells what fits at once. create_vm once for each way, with names that say which (way-1, way-2, …) and a ttl.
2. Bring the same start into each with cp_to_vm, and check that it is the same (the answers have a SHA-256).
3. Work on each way with exec and edit_file; keep long runs as processes and look at them in turn with read_process.
4. Measure all with the same commands, in a fresh run each.
5. Report a table of the ways with what was measured, and why the best is best. cp_from_vm brings it out.
6. delete_vm each VM that you made.`, arg("task"), orElse(arg("ways"), "3"), orElse(arg("measure"), "it works, then it is simple"))
			},
		},
		{
			name: "debug_service", title: "Debug a service in a microVM",
			description: "Find out why a service in a microVM fails",
			arguments: []promptArgument{
				{"vm", "The VM that it runs in", true},
				{"service", "The service, and what goes wrong", true},
			},
			text: func(arg func(string) string) string {
				return fmt.Sprintf(`Find out what is wrong with this service in the microVM %s: %s

1. get_vm: does the VM run, has it memory and disk left? vm_logs: did its boot or its userdata fail?
2. exec: is the process there (ps), does it listen (ss -ltnp), what do its logs say (journalctl, files under /var/log)?
3. Form one guess at a time, and test it with a command that could prove it wrong.
4. Change nothing before you know the cause. Then mend it with edit_file, restart it, and show that it works now.
5. Report the cause, the mend and how to see that it holds. Leave the VM running.`, quote(arg("vm")), arg("service"))
			},
		},
	}
}

// addPrompts adds the prompts to s.
func (t *Toolset) addPrompts(s *server.MCPServer) {
	for _, p := range prompts() {
		opts := []mcp.PromptOption{mcp.WithPromptTitle(p.title), mcp.WithPromptDescription(p.description)}
		for _, a := range p.arguments {
			argument := []mcp.ArgumentOption{mcp.ArgumentDescription(a.description)}
			if a.required {
				argument = append(argument, mcp.RequiredArgument())
			}
			opts = append(opts, mcp.WithArgument(a.name, argument...))
		}
		s.AddPrompt(mcp.NewPrompt(p.name, opts...), func(_ context.Context, req mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
			text, err := p.fill(req.Params.Arguments)
			if err != nil {
				return nil, err
			}
			message := mcp.NewPromptMessage(mcp.RoleUser, mcp.NewTextContent(t.redactor.text(text)))
			return mcp.NewGetPromptResult(p.description, []mcp.PromptMessage{message}), nil
		})
	}
}

// fill is the prompt's text with its arguments.
func (p prompt) fill(given map[string]string) (string, error) {
	valid := make([]string, 0, len(p.arguments))
	for _, a := range p.arguments {
		valid = append(valid, a.name)
		if a.required && strings.TrimSpace(given[a.name]) == "" {
			return "", refuse("prompt %s needs the argument %s: %s.", p.name, a.name, a.description)
		}
	}
	if faults := unknownArguments(asAny(given), valid); len(faults) > 0 {
		return "", refuse("prompt %s: %s", p.name, strings.Join(faults, "\n"))
	}
	return p.text(func(name string) string { return oneLine(given[name], longestPromptArgument) }), nil
}

func asAny(m map[string]string) map[string]any {
	out := make(map[string]any, len(m))
	for k, v := range m {
		out[k] = v
	}
	return out
}
