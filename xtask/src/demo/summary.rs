//! What was seen of each type, as a table at the end.

use super::TYPES;

/// Rows in the order of their first value.
#[derive(Default)]
pub struct Summary {
    rows: Vec<(&'static str, [String; 2])>,
}

impl Summary {
    /// Notes a value of a type.
    pub fn set(&mut self, name: &'static str, kind: &str, value: String) {
        let column = usize::from(kind == TYPES[1]);
        match self.rows.iter_mut().find(|(known, _)| *known == name) {
            Some((_, values)) => values[column] = value,
            None => {
                let mut values = [String::new(), String::new()];
                values[column] = value;
                self.rows.push((name, values));
            }
        }
    }

    /// Whether that value was noted.
    pub fn is(&self, name: &str, kind: &str, value: &str) -> bool {
        self.values(name).is_some_and(|values| values[usize::from(kind == TYPES[1])] == value)
    }

    /// Whether both types have the same value.
    pub fn same(&self, name: &str) -> bool {
        self.values(name).is_some_and(|values| values[0] == values[1])
    }

    fn values(&self, name: &str) -> Option<&[String; 2]> {
        self.rows.iter().find(|(known, _)| *known == name).map(|(_, values)| values)
    }

    pub fn print(&self) {
        println!("\n{:<30}{:>24}{:>24}", "", TYPES[0], TYPES[1]);
        for (name, values) in &self.rows {
            println!("{name:<30}{:>24}{:>24}", values[0], values[1]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_kept_by_name_and_type() {
        let mut summary = Summary::default();
        summary.set("kernel", "process", "6.1".into());
        summary.set("kernel", "hyperv", "6.12".into());
        assert!(summary.is("kernel", "hyperv", "6.12") && !summary.is("kernel", "process", "6.12"));
        assert!(!summary.same("kernel") && !summary.same("image"));
        summary.set("kernel", "process", "6.12".into());
        assert!(summary.same("kernel"));
    }
}
