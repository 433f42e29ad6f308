//! What was probably meant.

/// The name most like `name`, if one is like it at all.
pub(crate) fn nearest<'n>(name: &str, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let far = name.chars().count().div_ceil(3).max(1);
    let scored = names.into_iter().map(|other| (strsim::osa_distance(name, other), other));
    let near = scored.filter(|(distance, _)| *distance <= far);
    near.min_by_key(|(distance, _)| *distance).map(|(_, other)| other)
}

/// `did you mean …`, or what there is.
pub(crate) fn hint(name: &str, names: &[&str]) -> String {
    match nearest(name, names.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None if names.is_empty() => "there is none".to_owned(),
        None => {
            let shown: Vec<_> = names.iter().take(10).copied().collect();
            let more = if names.len() > shown.len() { ", …" } else { "" };
            format!("there are: {}{more}", shown.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints() {
        let names = ["daily_sales", "hello", "etl"];
        assert_eq!(hint("helo", &names), "did you mean `hello`?");
        assert_eq!(hint("daily-sales", &names), "did you mean `daily_sales`?");
        assert_eq!(hint("zzz", &names), "there are: daily_sales, hello, etl");
        assert_eq!(hint("zzz", &[]), "there is none");
    }
}
