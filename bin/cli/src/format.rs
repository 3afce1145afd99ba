//! `--format`: Go templates over JSON, as far as command lines use them.
//!
//! Text, `{{.A.B}}`, pipelines, `if`, `range`, `with`, variables, and the functions that Docker's clients
//! know (`json`, `join`, `index`, `println` and so on). What a list prints is one template for all its rows;
//! `table …` adds a line of headings and aligns the columns.

use serde_json::{Map, Value};

use crate::failure::{Failure, Result};
use crate::{output, table};

mod eval;
mod functions;
mod parse;

pub use parse::Template;

/// Runs a template over one value.
pub fn render(template: &str, value: &Value) -> Result<String> {
    let wrong =
        |error: String| Failure::words(format!("template parsing error: template: {error}"));
    let template = Template::parse(template).map_err(wrong)?;
    eval::render(&template, value).map_err(wrong)
}

/// How a kind of thing is listed.
#[derive(Debug, Clone, Copy)]
pub struct Listing {
    /// The columns of the plain table: a tab between two.
    pub table: &'static str,
    /// What `--quiet` prints of each.
    pub quiet: &'static str,
    /// Fields and their headings.
    pub headings: &'static [(&'static str, &'static str)],
}

impl Listing {
    /// Prints the rows.
    pub fn print(&self, format: Option<&str>, quiet: bool, rows: &[Value]) -> Result<()> {
        let text = self.text(format, quiet, rows)?;
        output::bytes(text.as_bytes())
    }

    /// Whether a field is shown.
    pub fn shows(&self, format: Option<&str>, field: &str) -> bool {
        let format = format.unwrap_or_default();
        matches!(format, "json" | "{{json .}}") || format.contains(&format!(".{field}"))
    }

    /// What [`Listing::print`] prints.
    pub fn text(&self, format: Option<&str>, quiet: bool, rows: &[Value]) -> Result<String> {
        let format = format.unwrap_or("table").trim();
        let columns = format.strip_prefix("table").filter(|rest| {
            rest.is_empty() || rest.starts_with(char::is_whitespace) || rest.starts_with("\\t")
        });
        let (template, headed) = match (format, columns) {
            ("table", _) if quiet => (self.quiet, false),
            ("table", _) => (self.table, true),
            ("json", _) => ("{{json .}}", false),
            (_, Some(columns)) => (columns.trim(), true),
            (template, None) => (template, false),
        };
        let template = template.replace("\\t", "\t").replace("\\n", "\n");
        let mut lines = Vec::new();
        if headed {
            lines.push(render(&template, &self.heading_row())?);
        }
        for row in rows {
            lines.push(render(&template, row)?);
        }
        Ok(match headed {
            true => table::align(&lines),
            false => lines.iter().map(|line| format!("{line}\n")).collect(),
        })
    }

    fn heading_row(&self) -> Value {
        let pair = |(field, heading): &(&str, &str)| {
            (field.to_string(), Value::String(heading.to_string()))
        };
        Value::Object(self.headings.iter().map(pair).collect::<Map<_, _>>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const LISTING: Listing = Listing {
        table: "{{.ID}}\t{{.Names}}",
        quiet: "{{.ID}}",
        headings: &[("ID", "CONTAINER ID"), ("Names", "NAMES"), ("Status", "STATUS")],
    };

    fn listed(format: Option<&str>, quiet: bool) -> String {
        let rows = [
            json!({ "ID": "0123456789ab", "Names": "web", "Status": "Up" }),
            json!({ "ID": "ba9876543210", "Names": "db", "Status": "Exited (0)" }),
        ];
        LISTING.text(format, quiet, &rows).unwrap()
    }

    #[test]
    fn lists_as_docker_prints_them() {
        let table = "CONTAINER ID   NAMES\n0123456789ab   web\nba9876543210   db\n";
        assert_eq!(listed(None, false), table);
        assert_eq!(listed(Some("table"), false), table);
        assert_eq!(listed(None, true), "0123456789ab\nba9876543210\n");
        assert_eq!(listed(Some("{{.Names}}"), false), "web\ndb\n");
        assert_eq!(
            listed(Some("table {{.Names}}\\t{{.Status}}"), false),
            "NAMES     STATUS\nweb       Up\ndb        Exited (0)\n"
        );
        assert_eq!(
            listed(Some("json"), false).lines().next(),
            Some(r#"{"ID":"0123456789ab","Names":"web","Status":"Up"}"#)
        );
    }

    #[test]
    fn fields_that_cost_are_known_from_the_format() {
        assert!(LISTING.shows(Some("{{.Size}}"), "Size"));
        assert!(LISTING.shows(Some("json"), "Size"));
        assert!(!LISTING.shows(None, "Size"));
    }

    #[test]
    fn templates_over_what_inspect_knows() {
        let value = json!({
            "Id": "abc",
            "State": { "Running": true, "Pid": 12, "ExitCode": 0 },
            "Config": { "Env": ["A=1", "B=2"], "Cmd": null, "Labels": { "x.y": "z" } },
            "NetworkSettings": {
                "Networks": { "web": { "IPAddress": "10.0.0.2" }, "db": { "IPAddress": "10.1.0.2" } },
                "Ports": { "80/tcp": [{ "HostIp": "0.0.0.0", "HostPort": "8080" }], "90/tcp": null },
            },
        });
        let cases = [
            ("{{.Id}}", "abc"),
            ("pid {{ .State.Pid }}!", "pid 12!"),
            ("{{json .State}}", r#"{"ExitCode":0,"Pid":12,"Running":true}"#),
            ("{{.State.Running}}", "true"),
            ("{{.Config.Env}}", "[A=1 B=2]"),
            ("{{.Config.Labels}}", "map[x.y:z]"),
            (r#"{{index .Config.Labels "x.y"}}"#, "z"),
            ("{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}", "10.1.0.2 10.0.0.2 "),
            (
                "{{range $k, $v := .NetworkSettings.Networks}}{{$k}}={{$v.IPAddress}};{{end}}",
                "db=10.1.0.2;web=10.0.0.2;",
            ),
            (r#"{{(index (index .NetworkSettings.Ports "80/tcp") 0).HostPort}}"#, "8080"),
            (r#"{{if .State.Running}}up{{else}}down{{end}}"#, "up"),
            (
                r#"{{if eq .State.ExitCode 0}}well{{else if eq .State.ExitCode 1}}one{{else}}bad{{end}}"#,
                "well",
            ),
            (r#"{{join .Config.Env ","}}"#, "A=1,B=2"),
            ("{{len .Config.Env}}", "2"),
            ("{{.Id | upper | printf \"%s-%d\" }}", "ABC-%!d(MISSING)"),
            ("{{printf \"%s %v %q\" .Id .State.Pid .Id}}", "abc 12 \"abc\""),
            ("{{range .Config.Cmd}}x{{else}}none{{end}}", "none"),
            ("{{with .Config.Labels}}{{json .}}{{end}}", r#"{"x.y":"z"}"#),
            ("{{$id := .Id}}{{range .Config.Env}}{{$id}}{{.}}{{end}}", "abcA=1abcB=2"),
            ("a {{- .Id -}} b", "aabcb"),
            ("{{/* nothing */}}{{println .Id}}", "abc\n"),
            ("{{.Config.Env | json}}", r#"["A=1","B=2"]"#),
            ("{{slice .Id 0 2}}", "ab"),
            ("{{range $i, $e := .Config.Env}}{{if $i}},{{end}}{{$e}}{{end}}", "A=1,B=2"),
            ("{{not .State.Running}} {{and 1 0}} {{or \"\" \"x\"}}", "false 0 x"),
            ("{{$.Id}}", "abc"),
            (r#"{{.Config.Label "x"}}"#, ""),
        ];
        for (template, text) in cases {
            assert_eq!(render(template, &value).unwrap(), text, "{template}");
        }
    }

    #[test]
    fn wrong_templates_are_told() {
        let value = json!({ "A": "b" });
        let error = render("{{.Foo}}", &value).unwrap_err().sentence();
        assert_eq!(
            error,
            "template parsing error: template: <.Foo>: map has no entry for key \"Foo\""
        );
        for (template, why) in [
            ("{{.A", "unclosed action"),
            ("{{nosuch .A}}", "function \"nosuch\" not defined"),
            ("{{if .A}}", "unexpected EOF"),
            ("{{end}}", "unexpected {{end}}"),
            ("{{$x}}", "undefined variable \"$x\""),
            ("{{.A.B}}", "can't evaluate field B in type string"),
            ("{{\"x}}", "unterminated quoted string"),
            ("{{index .A 5}}", "index out of range"),
        ] {
            let error = render(template, &value).unwrap_err().sentence();
            assert!(error.contains(why), "{template}: {error}");
        }
        let deep = format!("{}.A{}", "(".repeat(5000), ")".repeat(5000));
        assert!(render(&format!("{{{{{deep}}}}}"), &value).is_err());
    }
}
