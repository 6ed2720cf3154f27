//! What is wrong with a request, all of it at once, by field.

use std::fmt;

/// One or more fields that are not acceptable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Invalid(Vec<(&'static str, String)>);

impl Invalid {
    /// One field.
    pub(crate) fn field(name: &'static str, description: impl fmt::Display) -> Self {
        Self(vec![(name, description.to_string())])
    }

    /// The fields with what is wrong with each.
    pub(crate) fn fields(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.iter().map(|(name, description)| (*name, description.as_str()))
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (name, description)) in self.0.iter().enumerate() {
            write!(f, "{}`{name}`: {description}", if i == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

impl std::error::Error for Invalid {}

/// Collects what is wrong while a request is read.
#[derive(Debug, Default)]
pub(crate) struct Fields(Vec<(&'static str, String)>);

impl Fields {
    /// The value, or nothing and a note that `name` is wrong.
    pub(crate) fn read<T, E: fmt::Display>(&mut self, name: &'static str, value: Result<T, E>) -> Option<T> {
        value.map_err(|error| self.0.push((name, error.to_string()))).ok()
    }

    /// Notes that `name` is wrong.
    pub(crate) fn refuse(&mut self, name: &'static str, description: impl fmt::Display) {
        self.0.push((name, description.to_string()));
    }

    /// The values that were read, once nothing was wrong with any of them.
    ///
    /// # Errors
    /// Every field that was refused.
    pub(crate) fn finish<T>(self, values: Option<T>) -> Result<T, Invalid> {
        match values {
            Some(values) if self.0.is_empty() => Ok(values),
            _ => Err(Invalid(self.0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wrong_field_is_named_at_once() {
        let mut fields = Fields::default();
        let good = fields.read("a", Ok::<_, String>(1));
        let bad = fields.read("b", Err::<i32, _>("too small"));
        fields.refuse("c", "too large");
        let error = fields.finish(good.zip(bad)).expect_err("two fields are wrong");
        assert_eq!(error.to_string(), "`b`: too small; `c`: too large");
    }
}
