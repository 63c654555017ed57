//! A record as one page that needs nothing else.

use maud::{DOCTYPE, html};

use super::{Record, titled};

impl Record {
    pub(crate) fn html(&self) -> String {
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                head { meta charset="utf-8"; title { (self.name) } }
                body {
                    h1 { (self.name) }
                    table {
                        @for metric in &self.metrics {
                            tr {
                                td { (titled(&metric.name, &metric.labels)) }
                                td { (format!("{:?}", metric.values)) }
                                td { (metric.unit) }
                            }
                        }
                    }
                }
            }
        };
        page.into_string()
    }
}
