package caddyufc

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ufc-mesh/ufc/shared/model"
	"github.com/ufc-mesh/ufc/shared/store"
)

func (c *command) applyCommand() *cobra.Command {
	var files []string
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "apply -f <file|dir|-> [--dry-run]",
		Short: "Writes documents to etcd",
		Long: `
Writes documents to etcd. All are validated before any is written, and what
changes is printed. An Instances document is the wanted set of a service's
instances: others are deleted, but not those that registered themselves
under a lease.`,
		Args: cobra.NoArgs,
		RunE: c.run(func(cmd *cobra.Command, _ []string) error {
			documents, err := readDocuments(files, c.in)
			if err != nil {
				return err
			}
			return c.withClient(func(client *store.Client) error {
				plan, err := client.Plan(cmd.Context(), documents)
				if err != nil {
					return err
				}
				printChanges(c.out, plan)
				if dryRun {
					fmt.Fprintf(c.out, "%s; nothing was written: dry run\n", summary(plan))
					return nil
				}
				if err := client.Apply(cmd.Context(), plan); err != nil {
					return err
				}
				fmt.Fprintln(c.out, summary(plan))
				return nil
			})
		}),
	}
	addFileFlag(cmd, &files)
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "print what would change, and write nothing")
	return cmd
}

func (c *command) validateCommand() *cobra.Command {
	var files []string
	cmd := &cobra.Command{
		Use:   "validate -f <file|dir|->",
		Short: "Checks documents, without etcd",
		Args:  cobra.NoArgs,
		RunE: c.run(func(*cobra.Command, []string) error {
			documents, err := readDocuments(files, c.in)
			if err != nil {
				return err
			}
			fmt.Fprintf(c.out, "%s valid\n", count(len(documents), "document"))
			return nil
		}),
	}
	addFileFlag(cmd, &files)
	return cmd
}

func addFileFlag(cmd *cobra.Command, files *[]string) {
	cmd.Flags().StringArrayVarP(files, "file", "f", nil, "file, directory, or - for the standard input; may be repeated")
	_ = cmd.MarkFlagRequired("file") // fails only for a flag that doesn't exist
}

// readDocuments reads and validates all documents of all files. Its error names every problem that there is.
func readDocuments(paths []string, stdin io.Reader) ([]model.Document, error) {
	files, err := listFiles(paths)
	if err != nil {
		return nil, err
	}
	var documents []model.Document
	var problems []error
	for _, file := range files {
		data, name, err := readFile(file, stdin)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		read, err := model.Read(name, data)
		if err != nil {
			problems = append(problems, err)
		}
		documents = append(documents, read...)
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	if len(documents) == 0 {
		return nil, fmt.Errorf("%s: no document found", strings.Join(paths, ", "))
	}
	return documents, model.CheckDuplicates(documents)
}

func readFile(file string, stdin io.Reader) (data []byte, name string, err error) {
	if file == "-" {
		data, err = io.ReadAll(stdin)
		return data, "stdin", err
	}
	data, err = os.ReadFile(file)
	return data, file, err
}

// listFiles puts the files of directories in the place of these, in the order of their names. Directories within are
// left out.
func listFiles(paths []string) ([]string, error) {
	var files []string
	for _, path := range paths {
		if path == "-" && slices.Contains(files, "-") {
			return nil, errors.New("-f -: the standard input can be read only once")
		}
		info, err := os.Stat(path)
		if path == "-" || (err == nil && !info.IsDir()) {
			files = append(files, path)
			continue
		}
		if err != nil {
			return nil, err
		}
		entries, err := os.ReadDir(path)
		if err != nil {
			return nil, err
		}
		before := len(files)
		for _, entry := range entries {
			extension := filepath.Ext(entry.Name())
			if !entry.IsDir() && slices.Contains([]string{".yaml", ".yml", ".json"}, extension) {
				files = append(files, filepath.Join(path, entry.Name()))
			}
		}
		if len(files) == before {
			return nil, fmt.Errorf("%s: no *.yaml, *.yml or *.json file in the directory", path)
		}
	}
	return files, nil
}

// printChanges prints a line for each change.
func printChanges(w io.Writer, plan *store.Plan) {
	for _, change := range plan.Changes {
		kind := strings.ToLower(string(change.Kind))
		if change.Kind == model.KindInstances {
			kind = "instance"
		}
		line := strings.TrimRight(fmt.Sprintf("%-9s %-8s %s %s", change.Action, kind, change.Name, change.Address), " ")
		if change.Leased {
			line += " (under a lease, left alone)"
		}
		fmt.Fprintln(w, line)
	}
}

// summary says how many changes there are of each sort.
func summary(plan *store.Plan) string {
	counts := map[store.Action]int{}
	for _, change := range plan.Changes {
		counts[change.Action]++
	}
	return fmt.Sprintf("%d created, %d updated, %d deleted, %d unchanged",
		counts[store.Create], counts[store.Update], counts[store.Delete], counts[store.Unchanged])
}

// count writes a number of things.
func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
