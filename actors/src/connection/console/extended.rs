//! The extended protocol: prepared statements and portals.

use bytes::Bytes;

use super::state::{Portal, Prepared, Progress};
use super::{ConsoleSession, Failure};
use crate::console::{self, ConsoleError, TEXT_OID};
use crate::wire::{
    Acknowledgement, Bind, Format, Named, encode_acknowledgement, encode_command_complete,
    encode_parameter_description, encode_row_description,
};

/// The types whose binary form is their text: `"char"`, `name`, `text`, `unknown`, `bpchar`, `varchar`.
const TEXT_OIDS: [u32; 6] = [18, 19, TEXT_OID, 705, 1042, 1043];

impl ConsoleSession {
    fn acknowledge(&mut self, acknowledgement: Acknowledgement) {
        encode_acknowledgement(&mut self.out, acknowledgement);
    }

    pub(super) fn acknowledge_empty(&mut self) {
        self.acknowledge(Acknowledgement::EmptyQuery);
    }

    pub(super) fn prepare(
        &mut self,
        name: String,
        text: &str,
        mut types: Vec<u32>,
    ) -> Result<(), Failure> {
        let mut statements = console::parse(text)?;
        let statement = statements.pop();
        if !statements.is_empty() {
            return Err(ConsoleError::SeveralStatements.into());
        }
        let parameters = statement.as_ref().map_or(0, |one| one.parameters());
        types.resize(types.len().max(parameters.into()), 0);
        for oid in types.iter_mut().filter(|oid| **oid == 0) {
            *oid = TEXT_OID;
        }
        let columns = statement.as_ref().and_then(|one| self.columns(one));
        let prepared = Prepared {
            statement,
            types,
            columns,
        };
        self.state.add_statement(name, prepared)?;
        self.acknowledge(Acknowledgement::ParseComplete);
        Ok(())
    }

    pub(super) fn bind(&mut self, bind: Bind) -> Result<(), Failure> {
        let prepared = self.state.statement(&bind.statement)?;
        let required = prepared.types.len();
        let supplied = bind.parameters.len();
        if supplied != required {
            return Err(ConsoleError::ParameterCount { supplied, required }.into());
        }
        let formats = forms(&bind.parameter_formats, supplied)?;
        let values = bind.parameters.into_iter().zip(formats);
        let parameters = values
            .zip(&prepared.types)
            .enumerate()
            .map(|(index, ((value, format), oid))| parameter(index + 1, value, format, *oid))
            .collect::<Result<Vec<_>, _>>()?;
        if let Some(statement) = &prepared.statement {
            statement.request(&parameters)?;
        }
        let columns = prepared.columns.as_ref().map_or(0, |columns| columns.len());
        let portal = Portal {
            formats: forms(&bind.result_formats, columns)?,
            prepared,
            parameters,
            progress: Progress::New,
        };
        self.state.add_portal(bind.portal, portal)?;
        self.acknowledge(Acknowledgement::BindComplete);
        Ok(())
    }

    pub(super) fn describe(&mut self, named: &Named) -> Result<(), Failure> {
        let (prepared, formats) = match named {
            Named::Statement(name) => {
                let prepared = self.state.statement(name)?;
                encode_parameter_description(&mut self.out, &prepared.types);
                (prepared, Vec::new())
            }
            Named::Portal(name) => {
                let portal = self.state.portal(name)?;
                (portal.prepared.clone(), portal.formats.clone())
            }
        };
        match &prepared.columns {
            Some(columns) => {
                let formats = formats.into_iter().chain(std::iter::repeat(Format::Text));
                let fields = columns.iter().zip(formats);
                encode_row_description(
                    &mut self.out,
                    fields.map(|(column, format)| column.field(format)),
                );
            }
            None => self.acknowledge(Acknowledgement::NoData),
        }
        Ok(())
    }

    pub(super) async fn execute(
        &mut self,
        name: &str,
        rows_max: Option<usize>,
    ) -> Result<(), Failure> {
        let portal = self.state.portal(name)?;
        let prepared = portal.prepared.clone();
        let formats = portal.formats.clone();
        let parameters = std::mem::take(&mut portal.parameters);
        let progress = std::mem::replace(&mut portal.progress, Progress::Done);
        let Some(statement) = &prepared.statement else {
            self.acknowledge_empty();
            return Ok(());
        };
        let mut rows = match progress {
            Progress::New => self.run(statement, &parameters).await?.into_iter(),
            Progress::Rows(rows) => rows,
            Progress::Done if prepared.columns.is_some() => Vec::new().into_iter(),
            Progress::Done => {
                let name = name.to_owned();
                return Err(ConsoleError::PortalDone { name }.into());
            }
        };
        let mut count = 0;
        for row in rows.by_ref().take(rows_max.unwrap_or(usize::MAX)) {
            count += 1;
            self.send_row(&row, &formats).await?;
        }
        if rows.len() > 0 {
            self.state.portal(name)?.progress = Progress::Rows(rows);
            self.acknowledge(Acknowledgement::PortalSuspended);
        } else {
            encode_command_complete(&mut self.out, &statement.tag(count));
        }
        Ok(())
    }

    /// As in Postgres, there need be none of this name.
    pub(super) fn close(&mut self, named: &Named) {
        match named {
            Named::Statement(name) => self.state.deallocate(Some(name)),
            Named::Portal(name) => self.state.close_portal(name),
        }
        self.acknowledge(Acknowledgement::CloseComplete);
    }
}

/// The form of each value: text without codes, one code for all, or one for each.
fn forms(codes: &[Format], count: usize) -> Result<Vec<Format>, ConsoleError> {
    match codes {
        [] => Ok(vec![Format::Text; count]),
        [one] => Ok(vec![*one; count]),
        codes if codes.len() == count => Ok(codes.to_vec()),
        codes => Err(ConsoleError::FormatCount {
            supplied: codes.len(),
            count,
        }),
    }
}

/// A parameter as text.
fn parameter(
    number: usize,
    value: Option<Bytes>,
    format: Format,
    oid: u32,
) -> Result<Option<String>, ConsoleError> {
    let Some(value) = value else {
        return Ok(None);
    };
    let is_text = format == Format::Text || TEXT_OIDS.contains(&oid);
    let text = is_text.then(|| String::from_utf8(value.to_vec()).ok());
    match text.flatten() {
        Some(text) => Ok(Some(text)),
        None => Err(ConsoleError::NoTextParameter { number }),
    }
}
