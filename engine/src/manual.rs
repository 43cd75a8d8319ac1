//! The pages of the manual that tables of the program write: `docs/configuration.md` and `docs/families.md`.

use sinew_ml::families::FAMILIES;
use sinew_ml::family::{Family, Task};
use sinew_ml::params::{ParamSpec, ParamValue};

/// `docs/families.md`.
pub fn families() -> String {
    let mut text = String::from(
        "# Model families\n\n\
         What can be named after `USING`, or as `model_type`. Names and options are read in any case; an option can \
         be written by its name or by any of its aliases. [objectives.md](objectives.md) says what each family \
         minimises, `SHOW MODEL FAMILIES` shows this table in a session. Every family also takes \
         `device`: auto, cpu, gpu or the name of an adapter ([gpu.md](gpu.md)).\n",
    );
    for family in FAMILIES {
        text += &format!("\n## {}\n\n{}\n\n", family.name(), family.doc());
        text += &format!("Task: {}. Aliases: {}.\n\n", task(*family), list(family.aliases()));
        text += "| option | value | default | aliases |\n|---|---|---|---|\n";
        for spec in family.params() {
            text += &row(spec);
        }
        text.push('\n');
        for spec in family.params() {
            text += &format!("- `{}`: {}\n", spec.name, spec.doc);
        }
    }
    text
}

fn task(family: &dyn Family) -> &'static str {
    match family.task() {
        Task::Regression => "regression (the label is a number)",
        Task::Classification => "classification (the label is one of some classes)",
        Task::Clustering => "clustering (there is no label)",
    }
}

fn row(spec: &ParamSpec) -> String {
    let default = match &spec.default {
        ParamValue::Null => "see below".to_string(),
        value => format!("`{value}`"),
    };
    let line = format!("`{}` | {} | {default} | {}", spec.name, spec.kind, list(spec.aliases));
    // A bar inside a cell would end it.
    format!("| {} |\n", line.replace("k-means||", "k-means\\|\\|"))
}

fn list(names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares a page with what the program writes; with SINEW_UPDATE_DOCS=1 writes it.
    fn check(name: &str, page: String) -> std::io::Result<()> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs");
        let path = format!("{folder}/{name}");
        if std::env::var_os("SINEW_UPDATE_DOCS").is_some() {
            std::fs::create_dir_all(folder)?;
            std::fs::write(&path, &page)?;
        }
        assert_eq!(std::fs::read_to_string(path)?, page, "run the tests once with SINEW_UPDATE_DOCS=1");
        Ok(())
    }

    #[test]
    fn the_page_of_families_is_up_to_date() -> std::io::Result<()> {
        check("families.md", families())
    }

    #[test]
    fn the_page_of_options_is_up_to_date() -> std::io::Result<()> {
        check("configuration.md", crate::config::manual())
    }
}
